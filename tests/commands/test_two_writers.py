"""Two writers on one database, as two API processes are: conflicts are resolved, seats are never oversold."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from commands import aggregates
from commands import writer as writers
from commands.batch import Outcome, Replay, Submission
from domain.errors import AlreadyActivated, DeviceLimitExceeded, DeviceNotFound
from infra.postgres import Database
from tests.support.invariants import check_invariants
from tests.support.orders import (
    activate,
    carry_out,
    deactivate,
    issue,
    limits,
    running_writer,
    submitted,
    transfer,
)


async def test_a_race_for_the_last_seats_has_exactly_as_many_winners_as_seats(database: Database) -> None:
    async with running_writer(database) as one, running_writer(database) as other:
        for _ in range(5):
            license_id = uuid4()
            await carry_out(one, issue(license_id, max_devices=3))
            results = await asyncio.gather(
                *((one, other)[n % 2].execute(submitted(activate(license_id, f"pc-{n}"))) for n in range(40)),
                return_exceptions=True,
            )
            assert sum(isinstance(result, bytes) for result in results) == 3
            assert sum(isinstance(result, DeviceLimitExceeded) for result in results) == 37
        assert len(check_invariants(database)) == 5 * 4


async def test_a_licence_that_all_processes_want_at_once_serves_them_all(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orders come one by one on both sides for a while, so that many a batch meets the other's.

    Once it has, it is decided under the lock: a second attempt is always enough.
    """
    monkeypatch.setattr(writers, "MAX_ATTEMPTS", 2)
    async with running_writer(database) as one, running_writer(database) as other:
        license_id = uuid4()
        await carry_out(one, issue(license_id, max_devices=1000))

        async def client(number: int) -> list[Any]:
            orders = (activate(license_id, f"pc-{number}-{n}") for n in range(12))
            return await carry_out((one, other)[number % 2], *orders)

        clients = 0
        # Whether any of them meet is the threads' luck.
        while not one.stats.conflicts + other.stats.conflicts:
            assert clients < 80
            all_answers = await asyncio.gather(*map(client, range(clients, clients + 16)))
            assert [answer for answers in all_answers for answer in answers if not isinstance(answer, bytes)] == []
            clients += 16
        assert len(check_invariants(database)) == 1 + clients * 12


async def test_each_writer_decides_on_what_the_other_has_saved(database: Database) -> None:
    async with running_writer(database) as one, running_writer(database) as other:
        license_id = uuid4()
        await carry_out(one, issue(license_id, max_devices=1))
        assert await carry_out(other, activate(license_id, "a")) == [b'{"max_devices": 1, "current_devices": 1}']
        (refused,) = await carry_out(one, activate(license_id, "a"))
        assert isinstance(refused, AlreadyActivated)
        (moved,) = await carry_out(one, transfer(license_id, "a", "b"))
        assert isinstance(moved, bytes)
        (gone,) = await carry_out(other, deactivate(license_id, "a"))
        assert isinstance(gone, DeviceNotFound)
        (ended,) = await carry_out(other, deactivate(license_id, "b"))
        assert ended == b'{"max_devices": 1, "current_devices": 0}'
        # A refusal saves nothing that could conflict, so it too must rest on what the other has saved.
        await carry_out(one, activate(license_id, "c"), activate(license_id, "d"))
        await carry_out(other, deactivate(license_id, "c"))
        assert await carry_out(one, activate(license_id, "d")) == [b'{"max_devices": 1, "current_devices": 1}']
        check_invariants(database)


async def test_what_the_other_saves_between_reading_and_saving_is_not_passed_over(database: Database) -> None:
    loop = asyncio.get_running_loop()
    async with running_writer(database) as one, running_writer(database) as other:
        full, elsewhere = uuid4(), uuid4()
        await carry_out(one, issue(full, max_devices=1), activate(full, "a"), issue(elsewhere))

        def meanwhile(outcome: Outcome, _: object) -> bytes:
            asyncio.run_coroutine_threadsafe(carry_out(other, deactivate(full, "a")), loop).result(30)
            return limits(outcome)

        await one.execute(Submission(activate(elsewhere, "pc-1"), meanwhile))
        assert await carry_out(one, activate(full, "b")) == [b'{"max_devices": 1, "current_devices": 1}']
        check_invariants(database)


async def test_one_idempotency_key_on_both_writers_makes_one_event_and_one_answer(database: Database) -> None:
    async with running_writer(database) as one, running_writer(database) as other:
        for _ in range(10):
            license_id, key = uuid4(), uuid4().hex
            await carry_out(one, issue(license_id, max_devices=50))
            results = await asyncio.gather(
                *(
                    (one, other)[n % 2].execute(submitted(activate(license_id, "pc-1"), idempotency_key=key))
                    for n in range(10)
                )
            )
            replays = [result for result in results if isinstance(result, Replay)]
            (first,) = (result for result in results if isinstance(result, bytes))
            assert {replay.answer_sealed for replay in replays} == {b"sealed:" + first}
        assert len(check_invariants(database)) == 20


async def test_a_full_memory_forgets_licences_but_never_one_that_is_being_decided(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregates, "MAX_DEVICES", 20)
    async with running_writer(database) as writer, running_writer(database) as other:
        crowded, unknown = uuid4(), [uuid4() for _ in range(3)]
        await carry_out(writer, issue(crowded, max_devices=50))
        await asyncio.gather(*(writer.execute(submitted(activate(crowded, f"pc-{n}"))) for n in range(25)))
        # Failing orders make the writer forget the crowded licence and count it anew.
        for n in range(3):
            with pytest.raises(ZeroDivisionError):
                await writer.execute(Submission(activate(crowded, f"bad-{n}"), lambda *_: 1 // 0))  # type: ignore[arg-type]
        await carry_out(writer, activate(crowded, "there"))
        await carry_out(other, *(issue(one) for one in unknown))
        # One that is in memory and too large for it, together with some that have to be read.
        results = await asyncio.gather(
            *(writer.execute(submitted(activate(one, "more"))) for one in (crowded, *unknown))
        )
        assert all(isinstance(result, bytes) for result in results)
        check_invariants(database)


async def test_a_reader_that_tails_the_log_by_position_misses_nothing(database: Database) -> None:
    seen: list[int] = []
    done = False

    def tail() -> None:
        with database.connect() as connection:
            while True:
                finished = done
                rows = connection.execute(
                    "SELECT notification_id FROM licensing_events WHERE notification_id > %s ORDER BY notification_id",
                    (seen[-1] if seen else 0,),
                ).fetchall()
                seen.extend(row["notification_id"] for row in rows)
                if finished and not rows:
                    return

    async with running_writer(database) as one, running_writer(database) as other:
        reader = asyncio.create_task(asyncio.to_thread(tail))

        async def client(number: int) -> None:
            for n in range(25):
                # Bulk and single orders take very different times between their first position and their commit.
                await carry_out((one, other)[n % 2], *(issue(uuid4()) for _ in range(1 + number % 3)))

        await asyncio.gather(*map(client, range(12)))
    done = True
    await reader
    assert seen == [position for position, _ in check_invariants(database)]
