"""Reads of standings that share a query: each gets its own, as of after it asked, whatever becomes of the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from api.shared_reads import SharedReads
from commands.writer import GroupCommitWriter
from domain.identifiers import device_digest
from infra.clock import Clock
from infra.postgres import Database
from projections.standing import Standing, by_ids
from projections.verdicts import Key
from tests.support.orders import activate, issue, running_writer, submitted


class Gate:
    """The query, which waits at its beginning until it is let through. `asked` holds the keys of each query."""

    def __init__(self) -> None:
        self.asked: list[list[Key]] = []
        self.open = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, connection: Any, keys: Sequence[Key], read_at: float) -> list[Standing | None]:
        """Read standings by licence id, or raise `error`."""
        self.asked.append(list(keys))
        found = await by_ids(connection, keys, read_at)
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return found


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let who waits for a connection of the pool get it, however busy the machine is."""
    monkeypatch.setattr("infra.postgres.POOL_WAIT_SECONDS", 30.0)


@pytest.fixture
async def reads(database: Database, gate: Gate) -> AsyncIterator[SharedReads[Key, Standing]]:
    async with database.pool() as pool:
        yield SharedReads[Key, Standing](pool, Clock(), gate)


@pytest.fixture
async def gate() -> Gate:
    return Gate()


async def issued(writer: GroupCommitWriter, database: Database) -> UUID:
    license_id = uuid4()
    await writer.execute(submitted(issue(license_id, 5)))
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO data_subjects (subject_id) SELECT subject_id FROM licenses ON CONFLICT DO NOTHING"
        )
    return license_id


def key(license_id: UUID, hardware_id: str = "pc") -> Key:
    return license_id.bytes, device_digest(hardware_id)


async def test_each_gets_its_own_of_one_query(
    database: Database, reads: SharedReads[Key, Standing], gate: Gate
) -> None:
    gate.open.set()
    async with running_writer(database) as writer:
        licenses = [await issued(writer, database) for _ in range(20)]
        for license_id in licenses:
            await writer.execute(submitted(activate(license_id, "pc")))
    strange = uuid4()
    asked = [key(id_, name) for id_ in (*licenses[:10], strange, *licenses[10:]) for name in ("pc", "other")]
    found = await asyncio.gather(*(reads.read(one) for one in [*asked, asked[0]]))
    assert [standing and standing.license_id for standing in found] == [
        None if license_id == strange.bytes else UUID(bytes=license_id) for license_id, _ in [*asked, asked[0]]
    ]
    assert [bool(standing and standing.device_is_active) for standing in found] == [
        license_id != strange.bytes and digest == device_digest("pc") for license_id, digest in [*asked, asked[0]]
    ]
    assert len(gate.asked) == 1


async def test_who_asks_during_a_query_gets_what_holds_then(
    database: Database, reads: SharedReads[Key, Standing], gate: Gate
) -> None:
    async with running_writer(database) as writer:
        license_id = await issued(writer, database)
        early = asyncio.ensure_future(reads.read(key(license_id)))
        async with asyncio.timeout(10):
            while not gate.asked:  # noqa: ASYNC110 - the query begins in a task of its own
                await asyncio.sleep(0.01)
        await writer.execute(submitted(activate(license_id, "pc")))
    late = reads.read(key(license_id))
    gate.open.set()
    found = await late
    assert found is not None
    assert found.device_is_active
    await early
    assert len(gate.asked) == 2


async def test_a_failure_is_everybodys(reads: SharedReads[Key, Standing], gate: Gate) -> None:
    gate.open.set()
    gate.error = psycopg.errors.QueryCanceled("took too long")
    found = await asyncio.gather(*(reads.read(key(uuid4())) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in found] == [psycopg.errors.QueryCanceled] * 3
    gate.error = None
    assert await reads.read(key(uuid4())) is None


async def test_connections_that_are_lost_again_and_again_are_not_tried_for_ever(database: Database) -> None:
    tried = 0

    async def lose(connection: Any, _: Sequence[Key], __: float) -> list[Standing | None]:
        nonlocal tried
        tried += 1
        await connection.close()
        raise psycopg.OperationalError("lost")

    async with database.pool() as pool:
        reading = SharedReads[Key, Standing](pool, Clock(), lose).read(key(uuid4()))
        await asyncio.wait([reading], timeout=30)
        assert reading.done()
        assert str(reading.exception()) == "lost"
    assert tried > 1


async def test_who_leaves_does_not_harm_the_others(reads: SharedReads[Key, Standing], gate: Gate) -> None:
    gate.open.set()
    leaves, stays = reads.read(key(uuid4())), reads.read(key(uuid4()))
    leaves.cancel()
    async with asyncio.timeout(10):
        assert await stays is None


async def test_without_a_connection_all_hear_of_it(database: Database, gate: Gate) -> None:
    pool = database.pool()
    reads = SharedReads[Key, Standing](pool, Clock(), gate)
    async with asyncio.timeout(10):
        found = await asyncio.gather(*(reads.read(key(uuid4())) for _ in range(3)), return_exceptions=True)
    assert [isinstance(one, psycopg.OperationalError) for one in found] == [True] * 3
    await pool.open()
    gate.open.set()
    try:
        assert await reads.read(key(uuid4())) is None
    finally:
        await pool.close()
