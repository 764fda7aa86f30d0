"""Signing keys from the command line, while the service runs."""

from __future__ import annotations

import asyncio

import jwt

from tests.cli.conftest import CommandLine
from tests.support.client import Client


async def test_after_a_rotation_old_tokens_verify_and_new_ones_have_a_new_key(cli: CommandLine, client: Client) -> None:
    license = await client.new_license()
    await client.activate(license, "laptop")
    old = (await client.tokens(license, "laptop"))["access_token"]

    new_kid = (await asyncio.to_thread(cli, "keys", "rotate", "--json")).json["kid"]

    new = (await client.tokens(license, "laptop"))["access_token"]
    old_kid = jwt.get_unverified_header(old)["kid"]
    assert jwt.get_unverified_header(new)["kid"] == new_kid != old_kid
    for token in (old, new):
        assert (await client.bearer("/api/v1/license/heartbeat", token, {})).status == 200
    published = await client.request("GET", "/.well-known/jwks.json")
    assert [key["kid"] for key in published["keys"]] == [new_kid, old_kid]

    listed = (await asyncio.to_thread(cli, "keys", "list", "--json")).json["keys"]
    assert [(key["kid"], key["state"]) for key in listed] == [(new_kid, "signing"), (old_kid, "retired")]


def test_no_private_key_is_ever_shown(cli: CommandLine) -> None:
    assert set(cli("keys", "list", "--json").json["keys"][0]) == {
        *("kid", "state", "created_at", "retired_at", "accepted_until")
    }
