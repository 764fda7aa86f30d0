"""A refresh token works once; whoever uses it again ends the family, the thief's tokens with it."""

from __future__ import annotations

import asyncio

from tests.support.client import Client, Reply
from tests.support.world import Seat


async def refresh(client: Client, token: str) -> Reply:
    return await client.request("POST", "/api/v1/auth/refresh", {"refresh_token": token})


async def test_reuse_ends_the_family(attacker: Client, seat: Seat) -> None:
    stolen = seat.refresh
    fresh = await refresh(attacker, stolen)
    assert fresh.status == 200

    assert (await refresh(attacker, stolen)).status == 401
    assert (await refresh(attacker, fresh["refresh_token"])).status == 401


async def test_two_concurrent_uses_have_one_winner(attacker: Client, seat: Seat) -> None:
    for number in range(12):
        tokens = await attacker.tokens(seat.license, seat.hardware_id)
        attacker.address = f"10.78.0.{number}"
        replies = await asyncio.gather(*(refresh(attacker, tokens["refresh_token"]) for _ in range(2)))

        assert sorted(reply.status for reply in replies) == [200, 401]
        (winner,) = (reply for reply in replies if reply.status == 200)
        assert (await refresh(attacker, winner["refresh_token"])).status == 401  # The other use was a reuse.


async def test_another_family_goes_on(attacker: Client, seat: Seat) -> None:
    other = await attacker.tokens(seat.license, seat.hardware_id)
    await refresh(attacker, seat.refresh)
    assert (await refresh(attacker, seat.refresh)).status == 401

    assert (await refresh(attacker, other["refresh_token"])).status == 200
