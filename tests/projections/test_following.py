"""Each event is applied once, whoever asks; one that can't be applied stands aside and holds up nobody."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from commands.event_mapper import decoder
from domain.facts import DeviceActivated
from infra.postgres import Database
from projections import dead_letters
from projections.following import Follower, _Batch, _SingleFailed, is_of_an_event, positions
from projections.projection import Log, Projection
from projections.rebuild import Rebuild
from projections.seats import SEATS
from projections.usage_counts import USAGE_COUNTS
from tests.support.event_log import START, append, lives_of_licenses
from tests.support.given import activated, issued, recorded
from tests.support.usage import Use, store

POISON = """
    CREATE FUNCTION lizenzserver.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF {condition} THEN RAISE EXCEPTION 'this can not be digested'; END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON lizenzserver.{table} FOR EACH ROW EXECUTE FUNCTION lizenzserver.refuse()
"""
CURE = "DROP TRIGGER refuse ON lizenzserver.{table}; DROP FUNCTION lizenzserver.refuse()"


def follow(database: Database, projection: Projection, most: int = 1000) -> int:
    with database.connect_worker("test") as connection:
        return Follower(projection, decoder(), most, most).catch_up(connection)


def poison(database: Database, table: str, condition: str) -> None:
    as_owner(database, POISON.format(table=table, condition=condition))


def as_owner(database: Database, statement: str) -> None:
    with database.connect_owner() as owner:
        owner.execute(statement)


def differing_rows(database: Database, projection: Projection) -> int:
    with database.connect_owner() as owner:
        check = Rebuild(owner, projection, decoder())
        check.begin(afresh=True)
        try:
            return sum(check.compare(lambda _: None).values())
        finally:
            check.drop()


def seats_by_day(database: Database) -> int:
    with database.connect() as connection:
        row = connection.execute("SELECT coalesce(sum(activations), 0)::int AS taken FROM seat_days").fetchone()
        assert row is not None
        return int(row["taken"])


def set_aside(database: Database, consumer: str) -> list[tuple[Log, int]]:
    with database.connect() as connection:
        return [(letter.log, letter.position) for letter in dead_letters.listed(connection, consumer)]


def test_four_at_once_apply_each_event_once(database: Database) -> None:
    events = list(lives_of_licenses(3000))
    append(database, events)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: follow(database, SEATS, 20), range(4)))
    taken = sum(event.fact.stored_name in {"license.activated", "license.transferred"} for event in events)
    assert seats_by_day(database) == taken
    assert differing_rows(database, SEATS) == 0


def test_four_at_once_count_each_use_once(database: Database) -> None:
    store(database, [Use(START, UUID(int=number % 5)) for number in range(2000)])
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: follow(database, USAGE_COUNTS, 20), range(4)))
    with database.connect() as connection:
        (row,) = connection.execute("SELECT sum(heartbeats)::int AS counted FROM usage_days").fetchall()
    assert row["counted"] == 2000, "nothing in these tables would refuse a second count"
    assert set_aside(database, "usage") == []


def test_poison_stands_aside_and_is_applied_later(database: Database) -> None:
    good, bad = UUID(int=1), UUID(int=2)
    history = [recorded(good, 1, issued(999)), recorded(bad, 1, issued(999))]
    history += [recorded(good, version, activated(f"d{version}")) for version in range(2, 302)]
    history.insert(150, recorded(bad, 2, activated("bad")))
    history.append(recorded(bad, 3, activated("also bad")))
    append(database, history)
    poison(database, "seat_changes", f"NEW.license_id = '{bad}' AND NEW.activations = 1")

    follow(database, SEATS)

    assert set_aside(database, "seats") == [("events", 151), ("events", 304)]
    assert seats_by_day(database) == 300
    assert differing_rows(database, SEATS) == 0, "what stands aside is no difference"
    as_owner(database, CURE.format(table="seat_changes"))
    assert differing_rows(database, SEATS) == 0
    with database.connect_worker("test") as connection:
        for log, position in set_aside(database, "seats"):
            Follower(SEATS, decoder()).redrive(connection, log, position)
            Follower(SEATS, decoder()).redrive(connection, log, position)
    assert seats_by_day(database) == 302, "applied once each, though asked for twice"
    assert set_aside(database, "seats") == []
    assert differing_rows(database, SEATS) == 0


def test_what_is_applied_later_waits_for_a_rebuild_that_is_put_in_place(database: Database) -> None:
    """Else it would go into the tables that are being replaced, and its dead letter with them."""
    append(database, [recorded(UUID(int=1), 1, issued()), recorded(UUID(int=1), 2, activated("a"))])
    poison(database, "seat_changes", "NEW.activations = 1")
    follow(database, SEATS)
    assert set_aside(database, "seats") == [("events", 2)]
    as_owner(database, CURE.format(table="seat_changes"))
    with database.connect_owner() as owner, ThreadPoolExecutor(1) as thread:
        making = Rebuild(owner, SEATS, decoder())
        making.begin()
        making.fold(lambda _: None)
        with database.connect_worker("test") as worker:
            with owner.transaction():
                owner.execute("LOCK TABLE lizenzserver.consumers IN ACCESS EXCLUSIVE MODE")  # as the swap begins
                redriven = thread.submit(Follower(SEATS, decoder()).redrive, worker, "events", 2)
                _until_it_waits_for_a_lock(owner, worker.info.backend_pid, redriven)
                assert not redriven.done()
                making.swap()
            redriven.result(10)
    assert seats_by_day(database) == 1
    assert set_aside(database, "seats") == []
    assert differing_rows(database, SEATS) == 0


def _until_it_waits_for_a_lock(connection: psycopg.Connection[Any], pid: int, other: Future[None]) -> None:
    deadline = time.monotonic() + 30
    while not other.done():
        found = connection.execute("SELECT cardinality(pg_blocking_pids(%s)) AS holders", (pid,)).fetchone()
        assert found is not None
        if found["holders"]:
            return
        assert time.monotonic() < deadline, "it neither ends nor waits"
        time.sleep(0.01)


def test_poison_in_the_usage_log(database: Database) -> None:
    bad = UUID(int=2)
    rows = [Use(START, UUID(int=number + 100)) for number in range(400)]
    rows.insert(250, Use(START, bad))
    store(database, rows)
    poison(database, "usage_days", f"NEW.license_id = '{bad}'")
    follow(database, USAGE_COUNTS)
    assert len(set_aside(database, "usage")) == 1
    with database.connect() as connection:
        (row,) = connection.execute("SELECT sum(heartbeats)::int AS counted FROM usage_days").fetchall()
        (fleet,) = connection.execute("SELECT sum(heartbeats)::int AS counted FROM fleet_hours").fetchall()
    assert row["counted"] == fleet["counted"] == 400


def test_an_event_this_program_does_not_know_stands_aside(database: Database) -> None:
    append(database, [recorded(UUID(int=1), 1, issued())])
    as_owner(database, "UPDATE lizenzserver.licensing_events SET topic = 'license.sold'")
    append(database, [recorded(UUID(int=1), 2, activated("a"))])
    follow(database, SEATS)
    with database.connect() as connection:
        (letter,) = dead_letters.listed(connection)
    assert (letter.consumer, letter.log, letter.position) == ("seats", "events", 1)
    assert "license.sold" in letter.error
    assert seats_by_day(database) == 1


@pytest.mark.parametrize(
    "error",
    [
        errors.CardinalityViolation(),
        errors.NumericValueOutOfRange(),
        errors.UniqueViolation(),
        errors.CheckViolation(),
        errors.WithCheckOptionViolation(),
        errors.ProgramLimitExceeded(),
        errors.RaiseException(),
        psycopg.DataError("there is a NUL in it"),
        KeyError("max_devices"),
    ],
    ids=repr,
)
def test_what_an_event_is_at_fault_for(error: Exception) -> None:
    assert is_of_an_event(error)


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("the connection is lost"),
        errors.SerializationFailure(),
        errors.DeadlockDetected(),
        errors.InsufficientPrivilege(),
        errors.UndefinedTable(),
        errors.DiskFull(),
        errors.OutOfMemory(),
        errors.LockNotAvailable(),
        errors.QueryCanceled(),
        errors.AdminShutdown(),
        OSError(),
        MemoryError(),
    ],
    ids=repr,
)
def test_what_no_event_is_at_fault_for(error: Exception) -> None:
    assert not is_of_an_event(error)


def test_what_another_one_could_apply_meanwhile_is_not_set_aside(database: Database) -> None:
    follower = Follower(SEATS, decoder())
    with database.connect_worker("test") as connection:
        positions(connection, SEATS)
        connection.execute("UPDATE consumers SET event_position = 5 WHERE consumer = 'seats'")
        for _ in range(3):
            follower._note_failure(connection, "events", _SingleFailed(_Batch(4, 1, 5, [])))
        assert positions(connection, SEATS).events == 5
    assert set_aside(database, "seats") == []


def test_what_stands_aside_is_listed_in_the_order_of_the_log(database: Database) -> None:
    with database.connect() as connection:
        for position in (3, 1, 2):
            dead_letters.set_aside(connection, "seats", "events", position, "bad")
    assert set_aside(database, "seats") == [("events", 1), ("events", 2), ("events", 3)]


def test_of_an_error_no_more_is_kept_than_a_person_reads(database: Database) -> None:
    with database.connect() as connection:
        dead_letters.set_aside(connection, "seats", "events", 1, "x" * 501)
        (letter,) = dead_letters.listed(connection)
    assert letter.error == "x" * 500


@pytest.mark.parametrize(
    "trouble",
    [
        "ALTER TABLE lizenzserver.seat_days RENAME TO elsewhere",
        "REVOKE INSERT ON lizenzserver.seat_days FROM lizenzserver_service",
    ],
)
def test_what_no_event_caused_sets_nothing_aside(database: Database, trouble: str) -> None:
    append(database, lives_of_licenses(50))
    as_owner(database, trouble)
    for _ in range(20):
        with pytest.raises(psycopg.ProgrammingError):
            follow(database, SEATS)
    assert set_aside(database, "seats") == []
    with database.connect() as connection:
        assert positions(connection, SEATS).events == 0


def test_a_consumer_that_can_apply_nothing_stops(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "MOST_SET_ASIDE", 5)
    append(
        database,
        [recorded(UUID(int=1), version, DeviceActivated(hardware_id=f"d{version}")) for version in range(1, 20)],
    )
    poison(database, "seat_changes", "true")
    with pytest.raises(dead_letters.TooManyDeadLetters, match="seats has 5 dead letters"):
        follow(database, SEATS)
    assert len(set_aside(database, "seats")) == 5
    with database.connect() as connection:
        assert positions(connection, SEATS).events == 5


def test_a_lost_connection_costs_nothing(database: Database) -> None:
    append(database, lives_of_licenses(500))
    follower = Follower(SEATS, decoder(), 50)
    with database.connect_worker("test") as connection:
        follower.step(connection, "events")
        as_owner(
            database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%-test'"
        )
        with pytest.raises(psycopg.OperationalError):
            follower.step(connection, "events")
    again: Any = follow(database, SEATS)
    assert again == 450
    assert differing_rows(database, SEATS) == 0


def test_what_the_log_has_dropped_is_not_said_to_be_applied(database: Database) -> None:
    store(database, [Use(START, UUID(int=1))])
    poison(database, "usage_days", "true")
    follow(database, USAGE_COUNTS)
    as_owner(database, CURE.format(table="usage_days"))
    with database.connect_worker("test") as connection:
        connection.execute("SELECT drop_usage_partitions(current_date)")
        with pytest.raises(LookupError, match="does not hold it any more"):
            Follower(USAGE_COUNTS, decoder()).redrive(connection, "usage", 1)
    assert set_aside(database, "usage") == []
