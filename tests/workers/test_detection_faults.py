"""Detection goes on where clocks were wrong, what it remembers is damaged, or a data subject's key is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from psycopg import Connection

from domain.anomalies.engine import Engine
from domain.anomalies.observation import Observation
from domain.facts import CustomerErased, LicenseIssued
from infra.postgres import Database
from infra.vault import UnknownSubject, Vault
from projections import dead_letters
from projections.behaviour import CONSUMER
from projections.dead_letters import TooManyDeadLetters
from tests.support.client import eventually
from tests.support.cluster import Cluster
from tests.support.detecting import Anomaly, detect, found, parts_of, remembered, vault_of
from tests.support.event_log import append
from tests.support.fleet_logs import BEGIN, rows_of
from tests.support.given import recorded
from tests.support.small_history import DAY, GUESSER, LEAKED, guesses, line, small_history
from workers.anomaly import AnomalyWorker
from workers.detection import Detection, Parts
from workers.feed import ClockFeed
from workers.intake import Intake
from workers.lease import Lease

AWHILE = 0.5
"""How long rows are waited for here, in seconds."""


@pytest.fixture
def database(cluster: Cluster) -> Iterator[Database]:
    fresh = cluster.new_database()
    yield fresh
    cluster.drop(fresh)


def _days_since_begin() -> float:
    return (datetime.now(UTC).timestamp() - BEGIN) / DAY


def _addresses(database: Database, vault: Vault) -> set[str | None]:
    return {one.address for one in found(database, vault) if one.kind == "key_guessing"}


def test_a_row_of_tomorrow_holds_nothing_up(database: Database, tmp_path: Path) -> None:
    today = _days_since_begin()
    ahead = rows_of(database, tmp_path, [line(today + 1, "license.validated", LEAKED, "pc", "198.51.100.7")])
    behind = rows_of(database, tmp_path, guesses("203.0.113.80", today - 0.3, 60))
    with (
        parts_of(database, tmp_path, settle_seconds=AWHILE) as parts,
        database.connect_worker(CONSUMER) as connection,
    ):
        detection = Detection(connection, parts)
        ahead.put(database)
        behind.put(database)

        async def is_caught_up() -> bool:
            return detection.step().caught_up

        asyncio.run(eventually(is_caught_up))
    assert _addresses(database, vault_of(tmp_path)) == {"203.0.113.80"}
    assert remembered(database)["detection_clock"][0][-1] < datetime.now(UTC).timestamp() + 2 * AWHILE


@pytest.mark.parametrize("table", ["license_behaviour", "address_behaviour"])
def test_what_is_damaged_begins_anew(
    database: Database, tmp_path: Path, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    with parts_of(database, tmp_path) as parts:
        rows_of(database, tmp_path, small_history()).put(database)
        detect(database, parts)
        with database.connect() as connection:
            connection.execute(f"UPDATE {table} SET state = '\\x00'")
        lines = [line(10, "license.validated", LEAKED, "pc", "198.51.100.7"), *guesses("203.0.113.80", 10.1, 60)]
        rows_of(database, tmp_path, lines).put(database)
        with caplog.at_level(logging.ERROR):
            detect(database, parts)
    assert _addresses(database, vault_of(tmp_path)) == {GUESSER, "203.0.113.80"}
    assert "is damaged, and begins anew" in caplog.text
    with database.connect() as connection:
        assert not dead_letters.listed(connection, CONSUMER)


def _found_once_keys_are_gone(
    database: Database, parts: Parts, vault: Vault, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> list[Anomaly]:
    """Return what is found where keys go after rows were opened."""
    with database.connect_worker(CONSUMER) as connection:
        detection = Detection(connection, parts)
        usual = detection._intake.read

        def read(*args: object) -> bool:
            at_ends = usual(*args)  # type: ignore[arg-type]
            forget()
            return at_ends

        monkeypatch.setattr(detection._intake, "read", read)
        while not detection.step().caught_up:
            pass
        assert not dead_letters.listed(connection, CONSUMER)
    return [one for one in found(database, vault) if one.kind == "key_guessing"]


@pytest.mark.parametrize("is_erased", [False, True], ids=["only from memory", "erased"])
def test_what_is_found_is_recorded_where_the_key_went_meanwhile(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_erased: bool
) -> None:
    rows_of(database, tmp_path, guesses(GUESSER, 3.3, 40)).put(database)
    with parts_of(database, tmp_path) as parts:

        def forget() -> None:
            with database.connect() as connection:
                for row in connection.execute("SELECT subject_id FROM data_subjects").fetchall():
                    parts.senders._vault.forget(row["subject_id"])
                if is_erased:
                    connection.execute("UPDATE data_subjects SET wrapped_key = NULL")

        anomalies = _found_once_keys_are_gone(database, parts, vault_of(tmp_path), monkeypatch, forget)
    assert {one.address for one in anomalies} == {None if is_erased else GUESSER}


def test_a_step_is_taken_anew_where_a_key_is_destroyed_that_is_still_in_memory(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then no address can be opened any more, and nothing is found of one."""
    rows_of(database, tmp_path, guesses(GUESSER, 3.3, 40)).put(database)
    usual = Intake.read

    def read(self: Intake, connection: Connection[Any], now: float) -> bool:
        at_ends = usual(self, connection, now)
        connection.execute("UPDATE data_subjects SET wrapped_key = NULL")
        return at_ends

    monkeypatch.setattr(Intake, "read", read)
    with parts_of(database, tmp_path) as parts, database.connect_worker(CONSUMER) as connection:
        worker = AnomalyWorker(lambda: connection, parts, ClockFeed)
        while not worker._work(connection).caught_up:
            pass
        assert not dead_letters.listed(connection, CONSUMER)
    assert found(database, vault_of(tmp_path)) == []


def test_whoever_is_erased_is_forgotten_by_the_worker(database: Database, tmp_path: Path) -> None:
    """For good: no read that was under way brings the key back. Rows of before are not opened any more."""
    license_id, keys = uuid4(), vault_of(tmp_path)
    person, wrapped = keys.new_subject()
    with database.connect() as connection:
        connection.execute("INSERT INTO data_subjects (subject_id, wrapped_key) VALUES (%s, %s)", (person, wrapped))
    terms = LicenseIssued(key_digest=b"k" * 32, key_sealed=b"sealed", max_devices=1)
    with parts_of(database, tmp_path) as parts:
        append(database, [msgspec.structs.replace(recorded(license_id, 1, terms), subject_id=person)])
        detect(database, parts)
        assert keys.open(person, parts.seal(person, "address")) == "address"
        # What erases is elsewhere: here it is only told of.
        append(database, [recorded(person, 1, CustomerErased(license_ids=(license_id,)))])
        detect(database, parts)
        parts.senders.keep([{"subject_id": person, "wrapped_key": wrapped}])
        with pytest.raises(UnknownSubject):
            parts.seal(person, "address")


def test_who_stands_by_knows_nobody(database: Database, tmp_path: Path) -> None:
    """It does not read the log, and would not hear of whoever is erased."""
    with parts_of(database, tmp_path) as parts:
        vault = parts.senders._vault
        person, _ = vault.new_subject()
        with database.connect_worker(CONSUMER) as holder:
            assert Lease(CONSUMER).hold_now(holder)
            worker = AnomalyWorker(lambda: database.connect_worker(CONSUMER), parts, ClockFeed)
            assert worker._turn() is None
            assert not vault.knows(person)
            worker._disconnect()


def test_a_step_that_can_not_be_stored_does_not_fill_the_log(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: Engine, seen: Observation) -> None:
        raise ValueError("nothing can be looked at")

    monkeypatch.setattr(Engine, "observe", fail)
    monkeypatch.setattr(dead_letters, "MOST_SET_ASIDE", 10)
    rows_of(database, tmp_path, guesses(GUESSER, 3.3, 12)).put(database)
    with parts_of(database, tmp_path) as parts, database.connect_worker(CONSUMER) as connection:
        with pytest.raises(TooManyDeadLetters):
            Detection(connection, parts).step()
        assert "nothing can be looked at" not in caplog.text
        monkeypatch.setattr(dead_letters, "MOST_SET_ASIDE", 100)
        Detection(connection, parts).step()
    told = [record for record in caplog.records if "nothing can be looked at" in record.getMessage()]
    assert len(told) == 12
    assert all(record.exc_info for record in told)
