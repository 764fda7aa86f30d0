"""What was ended on one process is refused by the very next request on the other."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import psycopg
import pytest

from commands.recorder import EVENTS_LOCK
from commands.usage_connection import USAGE_LOCK
from tests.processes.freshness import KINDS, Kind, Lane, run_rounds
from tests.support.invariants import check_invariants
from tests.support.lock_holder import frozen_lock_holder
from tests.support.processes import Pair

ROUNDS = 300


async def test_what_was_ended_on_one_process_is_refused_by_the_next_request_on_the_other(pair: Pair) -> None:
    async with pair.clients() as clients:
        assert await run_rounds(clients, ROUNDS) == {"refused": ROUNDS}
    check_invariants(pair.database)


async def test_a_licence_that_was_revoked_for_a_moment_is_good_again_but_its_tokens_are_not(pair: Pair) -> None:
    async with pair.clients() as clients:
        lane = Lane(clients[0], clients[1], await clients[0].new_license(max_devices=2))
        await lane.ensure_active()
        token = (await clients[1].tokens(lane.license, lane.device))["access_token"]
        assert (await clients[1].bearer("/api/v1/license/heartbeat", token)).status == 200
        await lane.admin("DELETE")
        await lane.admin("PATCH", "", {"is_active": True})
        assert (await clients[1].bearer("/api/v1/license/heartbeat", token)).status == 401
        assert (await lane.used()).status == 200


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_nothing_that_was_ended_is_let_through_while_the_usage_log_is_blocked(pair: Pair, kind: Kind) -> None:
    """The usage row of a validation may come late; its verdict may not be old for that."""
    async with pair.clients() as clients:
        lane = Lane(clients[0], clients[1], await clients[0].new_license(max_devices=2))
        await lane.ensure_active()
        with pair.database.connect() as other:
            other.execute("BEGIN")
            other.execute("SELECT pg_advisory_xact_lock(%s)", (USAGE_LOCK,))
            assert await kind(lane)
            # Whoever holds it for three seconds is ended by the service: so long it may take where the machine is busy.
            with suppress(psycopg.OperationalError):
                other.execute("ROLLBACK")


async def test_validations_go_on_and_stay_right_while_a_session_with_the_logs_lock_is_frozen(pair: Pair) -> None:
    async with pair.clients() as clients:
        lane = Lane(clients[0], clients[1], await clients[0].new_license(max_devices=2))
        await lane.ensure_active()
        with frozen_lock_holder(pair.database, EVENTS_LOCK):
            ended = asyncio.create_task(lane.admin("POST", "/devices/deactivate", {"hardware_id": lane.device}))
            while not ended.done():
                # Before the deactivation is answered either verdict is right, but there must be one.
                assert (await lane.used()).status in {200, 403}
            await ended
        assert (await lane.used()).status == 403
