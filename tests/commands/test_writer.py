"""Group commit on a real database: what is saved together, what is answered when, what fails alone."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest

from commands import writer as writers
from commands.batch import Outcome, Submission
from commands.recorder import EVENTS_LOCK
from domain.anomalies.thresholds import DEFAULT
from domain.errors import DeviceLimitExceeded, LicenseNotFound, NotFound, ServiceUnavailable
from infra.postgres import Database
from projections.thresholds import SETTINGS_ID
from tests.support.anomalies import change_thresholds, detected, recording, resolve
from tests.support.client import eventually
from tests.support.invariants import check_invariants
from tests.support.orders import (
    activate,
    carry_out,
    issue,
    limits,
    revoke,
    revoke_api_key,
    running_writer,
    submitted,
    update,
)


async def test_what_waits_together_is_saved_in_one_transaction(database: Database) -> None:
    async with running_writer(database) as writer:
        ids = [uuid4() for _ in range(50)]
        with database.connect() as other:
            other.execute("BEGIN")
            other.execute("SELECT pg_advisory_xact_lock(%s)", (EVENTS_LOCK,))
            first = asyncio.create_task(writer.execute(submitted(issue(uuid4()))))
            await eventually(lambda: _waits_for_lock(database))
            rest = [asyncio.create_task(writer.execute(submitted(issue(one)))) for one in ids]
            await eventually(lambda: _is(writer.waiting() == 50))
            other.execute("COMMIT")
        await asyncio.gather(first, *rest)
        with database.connect() as reader:
            rows = reader.execute("SELECT xmin::text AS transaction FROM licensing_events").fetchall()
        assert sorted(Counter(row["transaction"] for row in rows).values()) == [1, 50]
        assert (writer.stats.batches, writer.stats.orders) == (2, 51)


async def test_no_answer_not_even_a_refusal_comes_before_the_commit(database: Database) -> None:
    async with running_writer(database) as writer:
        license_id = uuid4()
        await carry_out(writer, issue(license_id, max_devices=1))
        with database.connect() as other:
            other.execute("BEGIN")
            other.execute("SELECT pg_advisory_xact_lock(%s)", (EVENTS_LOCK,))
            tasks = [asyncio.create_task(writer.execute(submitted(activate(license_id, name)))) for name in "ab"]
            await eventually(lambda: _waits_for_lock(database))
            assert not any(task.done() for task in tasks)
            other.execute("COMMIT")
        taken, refused = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(taken, bytes)
        assert json.loads(taken) == {"max_devices": 1, "current_devices": 1}
        assert isinstance(refused, DeviceLimitExceeded)
        check_invariants(database)


async def test_an_answer_shows_the_state_right_after_its_own_order(database: Database) -> None:
    async with running_writer(database) as writer:
        license_id = uuid4()
        await carry_out(writer, issue(license_id, max_devices=9))
        orders = (submitted(activate(license_id, f"pc-{n}")) for n in range(9))
        answers: list[Any] = await asyncio.gather(*map(writer.execute, orders))
        assert [json.loads(answer)["current_devices"] for answer in answers] == list(range(1, 10))


@pytest.mark.parametrize("fault", ["rendering fails", "the database refuses"])
async def test_an_order_at_fault_fails_alone(database: Database, fault: str) -> None:
    async with running_writer(database) as writer:
        license_id, taken_digest = uuid4(), b"x" * 32
        await carry_out(writer, issue(license_id, max_devices=2), issue(uuid4(), key_digest=taken_digest))

        def broken(_: Outcome, __: object) -> bytes:
            raise ZeroDivisionError

        bad = Submission(activate(license_id, "bad"), broken)
        if fault == "the database refuses":
            bad = submitted(issue(uuid4(), key_digest=taken_digest))
        good = [submitted(activate(license_id, "good-1")), bad, submitted(activate(license_id, "good-2"))]
        results = await asyncio.gather(*map(writer.execute, good), return_exceptions=True)
        assert [isinstance(result, bytes) for result in results] == [True, False, True]
        assert "good-2" in str(check_invariants(database))
        # Nothing of the bad order is remembered either: both seats are taken by the good ones.
        assert json.loads(results[2])["current_devices"] == 2  # type: ignore[arg-type]


async def test_an_order_nobody_waits_for_any_more_is_carried_out(database: Database) -> None:
    async with running_writer(database) as writer:
        license_id = uuid4()
        with database.connect() as other:
            other.execute("BEGIN")
            other.execute("SELECT pg_advisory_xact_lock(%s)", (EVENTS_LOCK,))
            task = asyncio.create_task(writer.execute(submitted(issue(license_id))))
            await eventually(lambda: _waits_for_lock(database))
            task.cancel()
            other.execute("COMMIT")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await carry_out(writer, activate(license_id, "pc-1")) == [b'{"max_devices": 3, "current_devices": 1}']


async def test_orders_about_nothing_are_refused(database: Database) -> None:
    async with running_writer(database) as writer:
        results = await carry_out(writer, activate(uuid4(), "pc-1"), revoke(uuid4()), update(uuid4(), max_devices=5))
        assert [type(result) for result in results] == [LicenseNotFound] * 3
        assert check_invariants(database) == []


async def test_the_id_of_another_thing_is_of_nothing(database: Database) -> None:
    anomaly_id, license_id = uuid4(), uuid4()
    with recording(database) as record:
        record(detected(anomaly_id))
    change_thresholds(database, hammer_run=DEFAULT.hammer_run + 1)
    async with running_writer(database) as writer:
        await carry_out(writer, issue(license_id))
        for id in (anomaly_id, SETTINGS_ID):
            results = await carry_out(writer, activate(id, "pc"), update(id, max_devices=5), revoke(id))
            assert {type(result) for result in results} == {LicenseNotFound}
        for id in (anomaly_id, license_id, SETTINGS_ID):
            assert [type(result) for result in await carry_out(writer, revoke_api_key(id))] == [NotFound]
        for id in (license_id, SETTINGS_ID):
            assert [type(result) for result in await carry_out(writer, resolve(id, "dismissed"))] == [NotFound]
        assert len(check_invariants(database)) == 3


async def test_a_queue_that_is_too_long_refuses_at_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "MAX_WAITING", 2)
    async with running_writer(database) as writer:
        with database.connect() as other:
            other.execute("BEGIN")
            other.execute("SELECT pg_advisory_xact_lock(%s)", (EVENTS_LOCK,))
            first = asyncio.create_task(writer.execute(submitted(issue(uuid4()))))
            await eventually(lambda: _waits_for_lock(database))
            rest = [asyncio.create_task(writer.execute(submitted(issue(uuid4())))) for _ in range(2)]
            await eventually(lambda: _is(writer.waiting() == 2))
            with pytest.raises(ServiceUnavailable):
                await writer.execute(submitted(issue(uuid4())))
            other.execute("COMMIT")
        await asyncio.gather(first, *rest)


async def test_stopping_finishes_what_waits_and_refuses_what_comes_later(database: Database) -> None:
    async with running_writer(database) as writer:
        tasks = [asyncio.create_task(writer.execute(submitted(issue(uuid4())))) for _ in range(20)]
        await asyncio.sleep(0)
        await writer.stop()
        assert all(isinstance(answer, bytes) for answer in await asyncio.gather(*tasks))
        with pytest.raises(ServiceUnavailable):
            await writer.execute(submitted(issue(uuid4())))


async def test_an_answer_may_be_read_from_the_views_of_its_own_transaction(database: Database) -> None:
    async with running_writer(database) as writer:
        license_id = uuid4()

        def seats(_: Outcome, connection: object) -> bytes:
            query = "SELECT current_devices FROM licenses WHERE license_id = %s"
            row = connection.execute(query, (license_id,)).fetchone()  # type: ignore[attr-defined]
            return str(row["current_devices"]).encode()

        await carry_out(writer, issue(license_id))
        assert await writer.execute(Submission(activate(license_id, "a"), seats, needs_views=True)) == b"1"
        # It says what the batch has left, which is what the database holds.
        again = Submission(activate(license_id, "b"), seats, needs_views=True)
        mate = Submission(activate(license_id, "c"), limits)
        answer, _ = await asyncio.gather(writer.execute(again), writer.execute(mate))
        assert answer in {b"2", b"3"}


async def _is(condition: bool) -> bool:  # noqa: FBT001
    return condition


async def _waits_for_lock(database: Database) -> bool:
    with database.connect() as connection:
        query = "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        row = connection.execute(query).fetchone()
    return bool(row and row["n"])
