"""Issuing and looking at licences from the command line."""

from __future__ import annotations

import asyncio

import pytest

from tests.cli.conftest import CommandLine
from tests.support.client import Client


def test_a_created_licence_is_listed_and_shown(cli: CommandLine) -> None:
    created = cli(
        *("licenses", "create", "--customer", "acme", "--email", "ann@example.com", "--max-devices", "3"),
        *("--feature", "export", "--feature", "api", "--metadata", '{"order": 7}', "--expires-in-days", "30", "--json"),
    ).json
    assert (created["customer_id"], created["features"], created["metadata"]) == (
        "acme",
        ["export", "api"],
        {"order": 7},
    )
    cli("licenses", "create", "--customer", "other")

    listed = cli("licenses", "list", "--customer", "acme", "--json").json
    assert listed == {"licenses": [created], "total": 1}
    for name in (created["license_key"], created["license_key"].lower(), created["license_id"]):
        assert cli("licenses", "show", name, "--json").json == {**created, "devices": []}


def test_tables_are_plain_lines_when_they_go_to_a_pipe(cli: CommandLine) -> None:
    cli("licenses", "create", "--customer", "c" * 200, "--product", "\x1b[2J evil")
    listed = cli("licenses", "list")
    header, row = listed.out.splitlines()
    assert header.startswith("license_key")
    assert "c" * 200 in row
    assert r"\x1b[2J evil" in row
    assert "\x1b" not in listed.out


async def test_it_works_beside_a_running_server(cli: CommandLine, client: Client) -> None:
    arguments = ("licenses", "create", "--customer", "acme", "--key", "old key 1", "--json")
    created = (await asyncio.to_thread(cli, *arguments)).json
    assert (await client.activate({"license_key": "OLDKEY1"}, "laptop")).status == 201
    shown = (await asyncio.to_thread(cli, "licenses", "show", "old key 1", "--json")).json
    assert [device["hardware_id"] for device in shown["devices"]] == ["laptop"]
    assert shown["current_devices"] == 1
    events = await client.admin("GET", f"/licenses/{created['license_id']}/events")
    assert [event["actor"] for event in events["events"]][-1] == "job:licenses-create"


@pytest.mark.parametrize(
    "arguments, why",
    [
        ((), "give --customer or --email"),
        (("--email", "nobody"), "email"),
        (("--customer", "a\x01b"), "customer_id"),
        (("--customer", "a", "--metadata", "[]"), "metadata"),
        (("--customer", "a", "--metadata", "{"), "--metadata must be a JSON object"),
        (("--customer", "a", "--key", " "), "key must not be empty"),
    ],
)
def test_what_can_not_be_issued_is_refused_in_one_line(cli: CommandLine, arguments: tuple[str, ...], why: str) -> None:
    refused = cli("licenses", "create", *arguments)
    assert refused.code == 1
    assert why in refused.err
    assert refused.err.count("\n") == 1
    assert cli("licenses", "list", "--json").json["total"] == 0


def test_a_key_is_issued_once(cli: CommandLine) -> None:
    assert cli("licenses", "create", "--customer", "a", "--key", "old-1").code == 0
    refused = cli("licenses", "create", "--customer", "b", "--key", "OLD-1")
    assert (refused.code, refused.err) == (1, "error: there is a licence with this key already\n")


def test_an_unknown_licence_is_said_to_be_unknown(cli: CommandLine) -> None:
    refused = cli("licenses", "show", "LIC-NEVERTHERE22")
    assert (refused.code, refused.err) == (1, "error: there is no licence with this key or id\n")
