"""Named admin keys: made, used, and ended."""

from __future__ import annotations

import asyncio

import pytest

from tests.cli.conftest import CommandLine
from tests.support.client import Client


async def test_a_named_admin_works_until_removed(cli: CommandLine, client: Client) -> None:
    added = (await asyncio.to_thread(cli, "admins", "add", "maria", "--json")).json
    key = added["admin_key"]
    created = await client.admin("POST", "/licenses", {"customer_id": "acme"}, x_admin_api_key=key)
    assert created.status == 201
    events = await client.admin("GET", f"/licenses/{created['license_id']}/events")
    assert events["events"][0]["actor"] == "admin:maria"

    assert (await asyncio.to_thread(cli, "admins", "remove", "maria")).code == 0
    assert (await client.admin("GET", "/licenses", x_admin_api_key=key)).status == 401


def test_the_key_alone_is_on_stdout_and_nowhere_else(cli: CommandLine) -> None:
    added = cli("admins", "add", "ci")
    key = added.out.strip()
    assert key.startswith("adm_")
    assert key not in added.err
    assert key not in cli("admins", "list", "--json").out


def test_a_name_is_given_again_only_after_its_removal(cli: CommandLine) -> None:
    assert cli("admins", "add", "ci").code == 0
    assert "there is an admin named ci already" in cli("admins", "add", " ci ").err
    assert cli("admins", "remove", "ci").code == 0
    assert cli("admins", "add", "ci").code == 0
    (only,) = cli("admins", "list", "--json").json["admins"]
    assert (only["name"], only["removed_at"]) == ("ci", None)


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "a\nb", "default", "Secret", "licenses-api"])
def test_names_that_history_could_not_tell_apart(bare: CommandLine, name: str) -> None:
    refused = bare("admins", "add", name)
    assert refused.code == 1
    assert refused.err.count("\n") == 1


def test_nobody_is_removed_twice(cli: CommandLine) -> None:
    cli("admins", "add", "ci")
    cli("admins", "remove", "ci")
    assert cli("admins", "remove", "ci").err == "error: there is no admin named ci\n"
