from __future__ import annotations

from tests.support.client import Client


async def test_a_licence_lives(client: Client) -> None:
    license = await client.new_license()
    assert (await client.activate(license, "pc-1")).status == 201
    assert (await client.validate(license, "pc-1"))["valid"] is True
