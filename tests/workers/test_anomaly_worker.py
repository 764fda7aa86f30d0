"""The anomaly worker as processes: killed, frozen and doubled it finds the same as undisturbed, and as a backtest."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import pytest

from bench.fleet.lines import Line
from cli import backtest
from domain.anomalies.thresholds import DEFAULT
from domain.identifiers import usage_row_id
from infra.postgres import Database
from infra.vault import Vault
from projections import dead_letters
from projections.behaviour import CONSUMER
from tests.support.anomaly_process import AnomalyWorkers
from tests.support.client import eventually
from tests.support.cluster import Cluster
from tests.support.detecting import found, parts_of, recorded_ids, remembered, vault_of, with_one_key
from tests.support.fleet_logs import Rows, fleet_lines, in_order, rows_of
from tests.support.workers import WorkerProcess, are_at_the_end, holder
from workers.anomaly import AnomalyWorker
from workers.feed import ClockFeed

SEED = 2
KILLS = 20
ROWS_A_STEP = 100
ALL_ROWS = 10**9
MOST_STATE_BYTES = 4096


@dataclass(frozen=True)
class History:
    """A database whose logs hold the history of a fleet, and what the worker made of it in a copy, undisturbed."""

    logs: Database
    rows: Rows
    data_dir: Path
    done: Database
    vault: Vault

    @property
    def size(self) -> int:
        return len(self.rows.events) + len(self.rows.uses)


class Outcome(NamedTuple):
    """What was found, and what is remembered."""

    found: list[Any]
    remembered: dict[str, Any]

    @classmethod
    def of(cls, database: Database, vault: Vault) -> Outcome:
        ids = recorded_ids(database)
        assert len(ids) == len(set(ids))
        anomalies = found(database, vault)
        assert {one.id for one in anomalies} == set(ids)
        return cls(anomalies, remembered(database))


@pytest.fixture(scope="module")
def history(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    data_dir = with_one_key(tmp_path_factory.mktemp("anomaly-worker"))
    logs = cluster.new_database()
    rows = rows_of(logs, data_dir, fleet_lines(SEED))
    rows.put(logs)
    done = cluster.copy(logs)
    with WorkerProcess(done, "anomaly", data_dir) as worker:
        asyncio.run(at_the_end(done))
        assert worker.stop() == 0
    yield History(logs, rows, data_dir, done, vault_of(data_dir))
    for database in (logs, done):
        cluster.drop(database)


@pytest.fixture(scope="module")
def undisturbed(history: History) -> Outcome:
    return Outcome.of(history.done, history.vault)


@pytest.fixture
def database(cluster: Cluster, history: History) -> Iterator[Database]:
    copy = cluster.copy(history.logs)
    yield copy
    cluster.drop(copy)


async def at_the_end(database: Database) -> None:
    await eventually(_async(lambda: are_at_the_end(database, CONSUMER)), 60)


def _async(condition: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    async def asked() -> object:
        return await asyncio.to_thread(condition)

    return asked


def test_something_of_each_kind_is_found(undisturbed: Outcome, history: History) -> None:
    assert {one.kind for one in undisturbed.found} == {
        "key_guessing",
        "leaked_key",
        "credential_sharing",
        "impossible_travel",
        "cloned_hardware_id",
        "reseller_rotation",
        "hammering",
        "clock_rollback",
    }
    assert all((one.address is None) == (one.kind != "key_guessing") for one in undisturbed.found)
    with history.done.connect() as connection:
        assert dead_letters.listed(connection) == []
    assert holder(history.done, CONSUMER) is None, "its place is free at once"


def test_at_most_four_kilobytes_a_licence_are_stored(history: History) -> None:
    with history.done.connect() as connection:
        for table in ("license_behaviour", "address_behaviour"):
            (row,) = connection.execute(f"SELECT max(octet_length(state)) AS most FROM {table}").fetchall()
            assert 0 < row["most"] <= MOST_STATE_BYTES


class Progress:
    """How many rows of both logs are passed."""

    def __init__(self, database: Database) -> None:
        self._connection = database.connect()

    def rows(self) -> int:
        row = self._connection.execute(
            "SELECT event_position + usage_position AS rows FROM consumers WHERE consumer = 'anomaly'"
        ).fetchone()
        return int(row["rows"]) if row else 0

    async def beyond(self, rows: int) -> int:
        """Wait until more than so many are passed; return how many are."""
        await eventually(_async(lambda: self.rows() > rows))
        return self.rows()

    def give_place(self) -> None:
        """Let the next worker begin at once: the lease of one that was killed would make it wait for seconds."""
        self._connection.execute("DELETE FROM leases WHERE worker = 'anomaly'")

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def progress(database: Database) -> Iterator[Progress]:
    made = Progress(database)
    yield made
    made.close()


async def test_killed_twenty_times_it_finds_the_same(
    database: Database, history: History, undisturbed: Outcome, progress: Progress
) -> None:
    random = Random(SEED)
    at_once = history.size // (2 * KILLS)
    passed = 0
    with AnomalyWorkers(database, history.data_dir, ROWS_A_STEP) as workers:
        for _ in range(KILLS):
            workers.let_pass(passed + at_once)
            pid = workers.start()
            await progress.beyond(passed + random.randrange(at_once))
            workers.kill(pid)
            progress.give_place()
            passed = progress.rows()
        assert not are_at_the_end(database, CONSUMER), "all kills were in the midst of its work"
        workers.let_pass(ALL_ROWS)
        workers.start()
        await at_the_end(database)
    assert Outcome.of(database, history.vault) == undisturbed


async def test_of_two_one_works_and_they_find_the_same(
    database: Database, history: History, undisturbed: Outcome, progress: Progress
) -> None:
    with AnomalyWorkers(database, history.data_dir, ROWS_A_STEP) as workers:
        pids = {workers.start(), workers.start()}
        await progress.beyond(0)
        first = holder(database, CONSUMER)
        assert first in pids
        await at_the_end(database)
        assert holder(database, CONSUMER) == first
    assert Outcome.of(database, history.vault) == undisturbed


async def test_a_frozen_one_that_comes_back_does_no_harm(
    database: Database, history: History, undisturbed: Outcome, progress: Progress
) -> None:
    quarter = history.size // 4
    with AnomalyWorkers(database, history.data_dir, ROWS_A_STEP) as workers:
        workers.let_pass(quarter)
        frozen = workers.start()
        passed = await progress.beyond(0)
        os.kill(frozen, signal.SIGSTOP)
        progress.give_place()
        workers.let_pass(2 * quarter)
        other = workers.start()
        passed = await progress.beyond(passed + quarter // 2)
        os.kill(frozen, signal.SIGCONT)
        workers.let_pass(3 * quarter)
        await progress.beyond(passed + quarter // 2)
        os.kill(other, signal.SIGSTOP)
        progress.give_place()
        workers.let_pass(ALL_ROWS)
        await progress.beyond(progress.rows() + quarter // 2)
        os.kill(other, signal.SIGCONT)
        await at_the_end(database)
    assert Outcome.of(database, history.vault) == undisturbed


async def test_without_the_lease_it_stands_by(
    database: Database, history: History, progress: Progress, caplog: pytest.LogCaptureFixture
) -> None:
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO leases (worker, holder, holder_name, expires_at)"
            " VALUES ('anomaly', gen_random_uuid(), 'elsewhere:1', clock_timestamp() + interval '1 hour')"
        )
    with parts_of(database, history.data_dir) as parts, caplog.at_level(logging.INFO, "workers"):
        worker = AnomalyWorker(partial(database.connect_worker, CONSUMER), parts, ClockFeed)
        working = asyncio.create_task(worker.run())
        try:
            await eventually(_async(lambda: "the anomaly worker" in caplog.text))
            assert caplog.messages == ["the anomaly worker stands by"]
            assert progress.rows() == 0
            progress.give_place()
            await progress.beyond(0)
            await eventually(_async(lambda: "works" in caplog.text))  # said once its first step is done
        finally:
            working.cancel()
            await asyncio.wait([working])
    said = [message for message in caplog.messages if message.startswith("the anomaly worker")]
    assert said[:2] == ["the anomaly worker stands by", "the anomaly worker works"]


def test_a_backtest_finds_the_same(history: History, undisturbed: Outcome, tmp_path: Path) -> None:
    files = backtest.Files(
        tmp_path / "usage.jsonl", tmp_path / "licenses.jsonl", tmp_path / "found.jsonl", tmp_path / "scores.jsonl"
    )
    files.usage.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in exported(history)))
    files.licenses.write_bytes(b"")
    backtest.run(files, [DEFAULT], None, lambda _: None)
    said = [msgspec.json.decode(raw) for raw in files.out.read_bytes().splitlines()]
    in_form = [
        {
            "time": one.found_at,
            "type": one.kind,
            "severity": one.severity,
            "license_id": None if one.license_id is None else str(one.license_id),
            "explanation": one.explanation,
            "evidence": list(one.evidence),
            **({} if one.address is None else {"ip": one.address}),
        }
        for one in undisturbed.found
    ]
    assert sorted(map(_key, said)) == sorted(map(_key, msgspec.to_builtins(in_form)))


def _key(detection: dict[str, Any]) -> list[str]:
    return [f"{name} {value}" for name, value in sorted(detection.items())]


def exported(history: History) -> Iterator[dict[str, Any]]:
    """Give the lines of both logs in order, with the ids by which the live worker names them."""
    instance = instance_of(history.logs)
    ids = {id(line): event.event_id for line, event in zip(history.rows.event_lines, history.rows.events, strict=True)}
    ids |= {id(line): usage_row_id(instance, number) for number, line in enumerate(history.rows.use_lines, 1)}
    lines: list[Line] = in_order([*history.rows.event_lines, *history.rows.use_lines])
    for line in lines:
        yield {**msgspec.to_builtins(line), "id": str(ids[id(line)])}


def instance_of(database: Database) -> str:
    with database.connect() as connection:
        row = connection.execute("SELECT key_fingerprint FROM service_identity").fetchone()
    assert row is not None
    return str(row["key_fingerprint"])
