"""Detection over both logs: neither sizes of steps nor restarts nor when rows come change what it finds."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from domain.anomalies.engine import Engine
from domain.anomalies.observation import Observation
from domain.facts import Recorded
from domain.identifiers import usage_row_id
from infra.postgres import Database
from infra.vault import Vault
from projections import dead_letters
from projections.behaviour import CONSUMER, MovedByAnother, Reached
from projections.dead_letters import DeadLetter
from tests.support.client import eventually
from tests.support.cluster import Cluster
from tests.support.detecting import (
    Anomaly,
    begin_anew,
    detect,
    found,
    parts_of,
    recorded_ids,
    remembered,
    vault_of,
    with_one_key,
)
from tests.support.event_log import append
from tests.support.fleet_logs import BEGIN, Rows, rows_of
from tests.support.small_history import DAY, GUESSER, LEAKED, guesses, small_history
from workers.detection import Detection, Parts
from workers.intake import Intake

NEVER_SETTLED = 100 * 365 * DAY
"""So long, that only the rows of the other log tell that nothing earlier comes."""
NOTHING_REMEMBERED: dict[str, Any] = {"license_behaviour": [], "address_behaviour": [], "detection_clock": []}


Outcome = tuple[list[Anomaly], dict[str, Any]]
"""What is found, and what is remembered."""


@dataclass(frozen=True)
class Scene:
    """A database that has the data subjects of the small history, and what belongs into its logs.

    `usual` is what comes of it when nothing is in the way.
    """

    database: Database
    rows: Rows
    data_dir: Path
    vault: Vault
    usual: Outcome = ([], {})

    def parts(self, **more: Any) -> AbstractContextManager[Parts]:
        return parts_of(self.database, self.data_dir, **more)

    def outcome(self) -> Outcome:
        ids = recorded_ids(self.database)
        assert len(ids) == len(set(ids))
        assert set(ids) == {one.id for one in found(self.database, self.vault)}
        return found(self.database, self.vault), remembered(self.database)

    def reached(self) -> tuple[int, int]:
        with self.database.connect() as connection:
            (row,) = connection.execute("SELECT * FROM consumers WHERE consumer = 'anomaly'").fetchall()
        return row["event_position"], row["usage_position"]

    def dead_letters(self) -> list[DeadLetter]:
        with self.database.connect() as connection:
            return dead_letters.listed(connection, CONSUMER)


@pytest.fixture(scope="module")
def prepared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    data_dir = with_one_key(tmp_path_factory.mktemp("detection"))
    empty = cluster.new_database()
    rows = rows_of(empty, data_dir, small_history())
    scene = Scene(empty, rows, data_dir, vault_of(data_dir))
    undisturbed = cluster.copy(empty)
    yield replace(scene, usual=_usual(replace(scene, database=undisturbed)))
    for database in (empty, undisturbed):
        cluster.drop(database)


def _usual(scene: Scene) -> Outcome:
    scene.rows.put(scene.database)
    with scene.parts() as parts:
        detect(scene.database, parts)
    anomalies, states = scene.outcome()
    assert {one.kind for one in anomalies} == {"key_guessing", "leaked_key"}
    assert len(anomalies) > 3, "they become worse"
    ends = [max(line.time.timestamp() for line in lines) for lines in (scene.rows.event_lines, scene.rows.use_lines)]
    assert states["detection_clock"] == [(True, *ends)]
    return anomalies, states


@pytest.fixture
def scene(cluster: Cluster, prepared: Scene) -> Iterator[Scene]:
    copy = cluster.copy(prepared.database)
    yield replace(prepared, database=copy)
    cluster.drop(copy)


@pytest.mark.parametrize("process", ["one process", "a process for each step"])
@pytest.mark.parametrize("most_rows", [1, 7, 1000])
def test_sizes_of_steps_and_restarts_change_nothing(scene: Scene, most_rows: int, process: str) -> None:
    scene.rows.put(scene.database)
    with scene.parts(most_rows=most_rows) as parts:
        detect(scene.database, parts, restart=process != "one process")
    assert scene.outcome() == scene.usual


def _events_first(rows: Rows, put_events: Callable[[int], None], put_uses: Callable[[int], None]) -> Iterator[None]:
    put_events(len(rows.events))
    for _ in range(0, len(rows.uses), 70):
        yield
        put_uses(70)


def _uses_first(rows: Rows, put_events: Callable[[int], None], put_uses: Callable[[int], None]) -> Iterator[None]:
    put_uses(len(rows.uses))
    for _ in rows.events:
        yield
        put_events(1)


def _by_turns(rows: Rows, put_events: Callable[[int], None], put_uses: Callable[[int], None]) -> Iterator[None]:
    for _ in range(0, len(rows.uses), 90):
        put_uses(90)
        yield
        put_events(1)
        yield


@pytest.mark.parametrize("pieces", [_events_first, _uses_first, _by_turns])
def test_rows_that_come_late_change_nothing(scene: Scene, pieces: Callable[..., Iterator[None]]) -> None:
    database, rows = scene.database, scene.rows
    events, uses = list(rows.events), list(rows.uses)

    def put_events(count: int) -> None:
        append(database, events[:count])
        del events[:count]

    def put_uses(count: int) -> None:
        rows.put_uses(database, uses[:count])
        del uses[:count]

    with scene.parts() as parts:
        with database.connect_worker(CONSUMER) as connection:
            detection = Detection(connection, parts._replace(settle_seconds=NEVER_SETTLED, most_rows=50))
            for _ in pieces(rows, put_events, put_uses):
                while detection.step().more:
                    pass
        assert not events
        assert not uses
        detect(database, parts)
    assert scene.outcome() == scene.usual


async def test_a_row_waits_until_it_is_settled(scene: Scene) -> None:
    since_begin = (datetime.now(UTC).timestamp() - BEGIN) / DAY
    lines = guesses("203.0.113.80", since_begin, 1)

    def fill() -> None:
        rows_of(scene.database, scene.data_dir, lines).put(scene.database)

    await asyncio.to_thread(fill)  # it runs an event loop of its own
    with scene.parts(settle_seconds=1.0) as parts, scene.database.connect_worker(CONSUMER) as connection:
        turn = Detection(connection, parts._replace(settle_seconds=DAY)).step()
        assert (turn.usage_position, turn.caught_up) == (0, False)
        detection = Detection(connection, parts)

        async def is_settled() -> bool:
            return detection.step().caught_up

        await eventually(is_settled)
    assert datetime.now(UTC).timestamp() >= lines[0].time.timestamp() + 1.0


class Refused(Exception):
    """Stands for whatever may go wrong while a step is stored."""


@pytest.mark.parametrize("when", ["before the events", "within their transaction", "after another has moved on"])
def test_a_step_is_done_or_not_begun(scene: Scene, when: str) -> None:
    scene.rows.put(scene.database)
    with scene.parts() as parts, scene.database.connect_worker(CONSUMER) as connection:

        def record(
            connection: Connection[Any], events: Sequence[Recorded], first: Callable[[Connection[Any]], object]
        ) -> None:
            if when == "before the events":
                raise Refused

            def refuse(connection: Connection[Any]) -> None:
                first(connection)
                raise Refused

            parts.record(connection, events, refuse)

        if when == "after another has moved on":
            detection = Detection(connection, parts)
            connection.execute("UPDATE consumers SET usage_position = 1 WHERE consumer = 'anomaly'")
            with pytest.raises(MovedByAnother):
                detection.step()
            connection.execute("UPDATE consumers SET usage_position = 0 WHERE consumer = 'anomaly'")
        else:
            with pytest.raises(Refused):
                Detection(connection, parts._replace(record=record)).step()
        assert scene.reached() == (0, 0)
        assert scene.outcome() == ([], NOTHING_REMEMBERED)
        detect(scene.database, parts)
    assert scene.outcome() == scene.usual


def test_a_step_without_findings_is_stored_as_a_whole_too(scene: Scene) -> None:
    scene.rows.put_uses(scene.database, scene.rows.uses[:20])
    with scene.database.connect_owner() as owner:
        owner.execute("REVOKE INSERT ON lizenzserver.license_behaviour FROM lizenzserver_service")
    refused = pytest.raises(psycopg.errors.InsufficientPrivilege)
    with scene.parts() as parts, scene.database.connect_worker(CONSUMER) as connection, refused:
        Detection(connection, parts).step()
    assert scene.reached() == (0, 0)
    assert scene.outcome() == ([], NOTHING_REMEMBERED)


def test_where_positions_are_set_back_the_same_is_found_and_recorded_once(scene: Scene) -> None:
    scene.rows.put(scene.database)
    with scene.parts() as parts:
        for _ in range(2):
            detect(scene.database, parts)
            assert scene.outcome() == scene.usual
            begin_anew(scene.database)


def test_an_address_that_guesses_is_sealed_under_its_day(
    scene: Scene, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    scene.rows.put(scene.database)
    with caplog.at_level(logging.DEBUG), scene.parts() as parts:
        detect(scene.database, parts)
    vault = scene.vault
    guessed = [one for one in found(scene.database, vault) if one.kind == "key_guessing"]
    hashed = vault.lookup_hash("address", GUESSER)[:16]
    assert [(one.license_id, one.address, one.address_hash) for one in guessed] == [(None, GUESSER, hashed)] * 2
    assert hashed not in hashlib.sha256(GUESSER.encode()).digest(), "it is keyed"
    with scene.database.connect() as connection:
        (day,) = connection.execute(
            "SELECT subject_id FROM data_subjects WHERE lookup_hash = %s", (vault.lookup_hash("address", "2024-03-07"),)
        ).fetchall()
        assert {one.subject_id for one in guessed} == {day["subject_id"]}
        stored = [
            bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
            for table in ("anomalies", "address_behaviour", "license_behaviour", "dead_letters", "licensing_events")
            for row in connection.execute(f"SELECT * FROM {table}").fetchall()
            for value in row.values()
        ]
    assert len(stored) > 50
    printed = capfd.readouterr()
    for raw in [*stored, caplog.text.encode(), printed.out.encode(), printed.err.encode()]:
        assert GUESSER.encode() not in raw


def test_an_event_that_can_not_be_read_is_set_aside(scene: Scene) -> None:
    append(scene.database, scene.rows.events[:2])
    with scene.database.connect() as connection:
        connection.execute(
            "INSERT INTO licensing_events (originator_id, originator_version, topic, state)"
            " VALUES (gen_random_uuid(), 1, 'of.tomorrow', '{}')"
        )
    append(scene.database, scene.rows.events[2:])
    scene.rows.put_uses(scene.database, scene.rows.uses)
    with scene.parts() as parts:
        detect(scene.database, parts)
    assert [(letter.log, letter.position) for letter in scene.dead_letters()] == [("events", 3)]
    assert scene.outcome() == scene.usual


def test_a_row_at_which_a_detector_fails_is_set_aside(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.rows.put(scene.database)
    complete = next(one for one in scene.usual[0] if one.kind == "leaked_key")
    with scene.parts() as parts:
        ids = {str(usage_row_id(parts.instance, number)): number for number in range(1, len(scene.rows.uses) + 1)}
        fail_after_looking_at(monkeypatch, complete.evidence[0])
        detect(scene.database, parts)
    (letter,) = scene.dead_letters()
    assert (letter.log, letter.position) == ("usage", ids[complete.evidence[0]])
    assert letter.error == "Refused: this one"
    # What was half said of that row is not said of the next one, which may be another customer's.
    assert scene.outcome()[0] == [one for one in scene.usual[0] if one.id != complete.id]


def fail_after_looking_at(monkeypatch: pytest.MonkeyPatch, id: str) -> None:
    def sight(self: Any, state: Any, seen: Observation, now: int) -> None:
        usual_sight(self, state, seen, now)
        if seen.id == id:
            raise Refused("this one")

    sightings = type(Engine()._sightings)
    usual_sight: Any = sightings.sight
    monkeypatch.setattr(sightings, "sight", sight)


def test_networks_are_told_with_their_address_family(scene: Scene) -> None:
    lines = guesses("203.0.113.80", 1.0, 1) + guesses("2001:db8:5::1", 2.0, 1)
    rows_of(scene.database, scene.data_dir, lines).put(scene.database)
    with scene.parts() as parts, scene.database.connect_worker(CONSUMER) as connection:
        intake = Intake(Reached(0, 0, 0, 0), parts.decode, parts.senders, parts.instance, 0.0, 10)
        intake.read(connection, datetime.now(UTC).timestamp())
        networks = [taken.row.seen.network for taken in intake.take(10) if taken.row.seen is not None]
    assert [network[0] for network in networks if network] == [4, 6]


@pytest.mark.parametrize("damage", ["NULL", "'\\x00'::bytea"], ids=["erased", "damaged"])
def test_rows_of_a_subject_whose_key_is_gone_are_looked_at_without_address(scene: Scene, damage: str) -> None:
    scene.rows.put(scene.database)
    with scene.database.connect() as connection:
        connection.execute(f"UPDATE data_subjects SET wrapped_key = {damage}")
    with scene.parts() as parts:
        detect(scene.database, parts)
    assert scene.dead_letters() == []
    anomalies = scene.outcome()[0]
    assert [one.kind for one in anomalies] == [one.kind for one in scene.usual[0] if one.kind == "leaked_key"]
    assert {str(one.license_id) for one in anomalies} == {LEAKED}
