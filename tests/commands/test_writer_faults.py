"""The writer when the database fails under it: replies lost, sessions stuck, servers gone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from commands.recorder import EVENTS_LOCK
from domain.errors import AlreadyActivated, ServiceUnavailable
from infra.postgres import Database
from tests.support.client import eventually
from tests.support.cluster import Cluster
from tests.support.invariants import check_invariants
from tests.support.lock_holder import frozen_lock_holder
from tests.support.orders import activate, carry_out, issue, running_writer, submitted
from tests.support.postgres_faults import kill_server
from tests.support.socket_proxy import Fault, SocketProxy
from tests.support.within import within


@pytest.fixture
def proxy(database: Database, tmp_path: Path) -> Iterator[SocketProxy]:
    with SocketProxy(database, tmp_path) as running:
        yield running


def events_of(database: Database, hardware_id: str) -> int:
    return sum(getattr(event.fact, "hardware_id", None) == hardware_id for _, event in check_invariants(database))


@pytest.mark.parametrize("fault", ["lose the reply to COMMIT", "lose COMMIT", "lose COMMIT and stay half open"])
async def test_a_connection_lost_around_commit_makes_one_event_and_the_right_answer(
    database: Database, proxy: SocketProxy, fault: Fault
) -> None:
    async with running_writer(database, proxy.database.connect) as writer:
        license_id = uuid4()
        await carry_out(writer, issue(license_id, max_devices=2))
        proxy.arm(fault)
        async with asyncio.timeout(30):
            answer = await writer.execute(submitted(activate(license_id, "pc-1"), idempotency_key="k"))
        assert proxy.happened.is_set()
        assert answer == b'{"max_devices": 2, "current_devices": 1}'
        assert events_of(database, "pc-1") == 1
        # It works on as before, and so does the idempotency key.
        assert isinstance((await carry_out(writer, activate(license_id, "pc-1")))[0], AlreadyActivated)
        replay: Any = await writer.execute(submitted(activate(license_id, "pc-1"), idempotency_key="k"))
        assert replay.answer_sealed == b"sealed:" + answer
        assert writer.stats.reconnects <= 1


async def test_where_nobody_can_tell_whether_it_was_saved_the_key_resolves_it(
    database: Database, proxy: SocketProxy
) -> None:
    async with running_writer(database, proxy.database.connect) as writer:
        license_id = uuid4()
        await carry_out(writer, issue(license_id))
        proxy.arm("lose the reply to COMMIT")
        proxy.refusing.set()
        order = submitted(activate(license_id, "pc-1"), idempotency_key="k")
        with pytest.raises(ServiceUnavailable):
            await writer.execute(order)
        assert events_of(database, "pc-1") == 1
        proxy.refusing.clear()
        again: Any = await writer.execute(submitted(activate(license_id, "pc-1"), idempotency_key="k"))
        assert again.answer_sealed == b'sealed:{"max_devices": 3, "current_devices": 1}'
        assert events_of(database, "pc-1") == 1


@pytest.mark.parametrize("attempts_until_it_is_back", range(1, 7))
async def test_a_database_that_comes_back_in_between_does_not_make_a_saved_order_a_refusal(
    database: Database, proxy: SocketProxy, attempts_until_it_is_back: int
) -> None:
    """Whoever was saved must not hear ALREADY_ACTIVATED, whenever the connection comes back."""
    failures = 0

    def unsteady() -> Any:
        nonlocal failures
        if proxy.happened.is_set() and failures < attempts_until_it_is_back:
            failures += 1
            raise psycopg.OperationalError("not back yet")
        return proxy.database.connect()

    async with running_writer(database, unsteady) as writer:
        license_id = uuid4()
        await carry_out(writer, issue(license_id))
        proxy.arm("lose the reply to COMMIT")
        (answer,) = await carry_out(writer, activate(license_id, "pc-1"))
        assert isinstance(answer, bytes | ServiceUnavailable)
        assert events_of(database, "pc-1") == 1


async def test_a_frozen_session_that_holds_the_lock_is_ended(database: Database) -> None:
    async with running_writer(database) as writer:
        license_id = uuid4()
        await carry_out(writer, issue(license_id, max_devices=50))
        with frozen_lock_holder(database, EVENTS_LOCK):
            async with within(10):
                answers = await asyncio.gather(
                    *(writer.execute(submitted(activate(license_id, f"pc-{n}"))) for n in range(20))
                )
        assert all(isinstance(answer, bytes) for answer in answers)
        assert writer.stats.stale_holders_ended == 1
        assert len(check_invariants(database)) == 21


async def test_a_session_that_holds_the_lock_for_a_moment_is_left_alone(database: Database) -> None:
    async with running_writer(database) as writer:
        with database.connect() as other:
            other.execute("BEGIN")
            other.execute("SELECT pg_advisory_xact_lock(%s)", (EVENTS_LOCK,))
            task = asyncio.create_task(writer.execute(submitted(issue(uuid4()))))
            await asyncio.wait([task], timeout=1)
            assert not task.done()
            other.execute("COMMIT")
        assert isinstance(await task, bytes)
        assert writer.stats.stale_holders_ended == 0


async def test_while_the_database_is_down_orders_are_refused_at_once_and_later_taken_without_a_restart() -> None:
    with Cluster() as own:
        database = own.new_database()
        async with running_writer(database) as writer:
            license_id = uuid4()
            await carry_out(writer, issue(license_id, max_devices=9))
            await asyncio.to_thread(kill_server, own)
            for attempt in range(3):
                async with within(1):
                    (refused,) = await carry_out(writer, activate(license_id, f"down-{attempt}"))
                assert isinstance(refused, ServiceUnavailable)
            await asyncio.to_thread(own.server.start)
            async with within(5):
                answer = await eventually(lambda: _taken(carry_out(writer, activate(license_id, "up"))))
            assert answer == b'{"max_devices": 9, "current_devices": 1}'
            assert len(check_invariants(database)) == 2


async def _taken(results: Any) -> bytes | None:
    (answer,) = await results
    return answer if isinstance(answer, bytes) else None
