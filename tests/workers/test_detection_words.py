"""What people say takes effect at its place in history: dismissals, acknowledgements, other thresholds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from bench.fleet.lines import Line, moment
from cli.core import workbench
from commands.event_mapper import decoder
from commands.orders import ResolveAnomaly
from domain.anomalies.thresholds import DEFAULT, Thresholds
from domain.anomaly import Resolution
from domain.facts import SettingsChanged
from infra.postgres import Database
from infra.vault import Vault
from projections.reading import reader
from tests.support.client import eventually
from tests.support.cluster import Cluster
from tests.support.detecting import (
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
from tests.support.fleet_logs import BEGIN, in_order, rows_of
from tests.support.service import settings_for
from tests.support.small_history import DAY, GUESSER, LEAKED, ORDINARY, guesses, line, office_days, strangers
from tests.support.workers import WorkerProcess
from workers.thresholds import change


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_one_key(tmp_path_factory.mktemp("detection-words"))


@pytest.fixture
def database(cluster: Cluster) -> Iterator[Database]:
    fresh = cluster.new_database()
    yield fresh
    cluster.drop(fresh)


@pytest.fixture(scope="module")
def vault(data_dir: Path) -> Vault:
    return vault_of(data_dir)


class World:
    """A database that comes to know more lines from time to time; each time, another process looks at them."""

    def __init__(self, database: Database, data_dir: Path, vault: Vault) -> None:
        self.database, self.data_dir, self.vault = database, data_dir, vault
        self._seen: set[UUID] = set()
        self._thresholds = DEFAULT

    def pass_on(self, *lines: Line, **more: Any) -> list[tuple[str, str, str]]:
        """Let them come, and return what is found besides: whose, which kind, how bad."""
        rows_of(self.database, self.data_dir, in_order(lines)).put(self.database)
        return self.look(**more)

    def go_by(self, thresholds: Thresholds) -> None:
        """Let these have been the thresholds long before anything happened."""
        with self.database.connect() as connection:
            event = change(connection, thresholds, moment(BEGIN - 200 * DAY), decoder())
        assert event is not None
        append(self.database, [event])
        self._thresholds = thresholds

    def look(self, **more: Any) -> list[tuple[str, str, str]]:
        with parts_of(self.database, self.data_dir, **{"thresholds": self._thresholds, **more}) as parts:
            detect(self.database, parts)
        new = [one for one in found(self.database, self.vault) if one.id not in self._seen]
        self._seen |= {one.id for one in new}
        assert len(recorded_ids(self.database)) == len(self._seen)
        return [(str(one.license_id or one.address), one.kind, one.severity) for one in new]

    def resolve_all(self, resolution: Resolution, day: float) -> None:
        """Let an administrator say what is to be thought of all that was found."""
        asyncio.run(self._resolve_all(resolution, day))

    async def _resolve_all(self, resolution: Resolution, day: float) -> None:
        async with workbench(settings_for(self.data_dir), self.database, "test") as bench:
            for id in self._seen:
                cause, now = bench.cause(ResolveAnomaly), moment(BEGIN + day * DAY)
                order = ResolveAnomaly(cause=cause, now=now, anomaly_id=id, resolution=resolution)
                await bench.execute(order)


@pytest.fixture
def world(database: Database, data_dir: Path, vault: Vault) -> World:
    return World(database, data_dir, vault)


def issued(license_id: str) -> Line:
    made = line(-100, "license.issued", license_id, None)
    made.max_devices = 2
    return made


def refused(license_id: str, day: float, count: int, first: int) -> list[Line]:
    """Return strangers in the licence's own country."""
    return strangers(license_id, day, count, first, ("DE",))


PINNED = msgspec.structs.replace(
    DEFAULT, leak_strangers=300, leak_share_of_parties=0.0, guessing_keys=15.0, guessing_patience_seconds=9 * 86_400
)
"""Three strangers are an alert, or 15 keys of one address, and twice as many a worse one."""
LEAK = (LEAKED, "leaked_key")
GUESSES = (GUESSER, "key_guessing")


@pytest.mark.parametrize("resolution", ["dismissed", "acknowledged"])
def test_a_dismissal_keeps_quiet_until_it_becomes_worse(world: World, resolution: Resolution) -> None:
    world.go_by(PINNED)
    office = [one for pc in ("pc-1", "pc-2") for one in office_days(LEAKED, pc, "198.51.100.7", 5)]
    first = world.pass_on(issued(LEAKED), *office, *refused(LEAKED, 8.0, 3, 0), *guesses(GUESSER, 8.0, 16))
    assert sorted(first) == sorted([(*LEAK, "medium"), (*GUESSES, "medium")])
    world.resolve_all(resolution, 8.5)
    assert not world.look()

    again = world.pass_on(*refused(LEAKED, 9.0, 1, 3), *guesses(GUESSER, 8.9, 1, "one more"))
    assert not again, "within a week nobody is told again"

    next_month = world.pass_on(*refused(LEAKED, 22.0, 3, 4), *guesses(GUESSER, 22.0, 16, "others"))
    if resolution == "dismissed":
        assert not next_month
    else:
        assert sorted(next_month) == sorted([(*LEAK, "medium"), (*GUESSES, "medium")])

    worse = world.pass_on(*refused(LEAKED, 22.5, 5, 7), *guesses(GUESSER, 22.5, 16, "even others"))
    assert sorted(worse) == sorted([(*LEAK, "high"), (*GUESSES, "high")])


def test_a_dismissal_is_about_its_subject_and_kind_alone(world: World) -> None:
    world.go_by(PINNED)
    office = [one for id in (LEAKED, ORDINARY) for one in office_days(id, f"pc-{id[0]}", "198.51.100.7", 5)]
    issues = issued(LEAKED), issued(ORDINARY)
    assert world.pass_on(*issues, *office, *refused(LEAKED, 8.0, 3, 0)) == [(*LEAK, "medium")]
    world.resolve_all("dismissed", 8.5)
    others = world.pass_on(*refused(ORDINARY, 9.0, 3, 3), *guesses(GUESSER, 9.0, 16))
    assert sorted(others) == sorted([(ORDINARY, "leaked_key", "medium"), (*GUESSES, "medium")])


def changes(database: Database) -> list[SettingsChanged]:
    with database.connect() as connection:
        events = reader(decoder())(connection, 0, 10_000)
    facts = [getattr(event, "fact", None) for _, event in events]
    return [fact for fact in facts if isinstance(fact, SettingsChanged)]


def test_other_thresholds_hold_from_their_event_on(world: World) -> None:
    strict = msgspec.structs.replace(DEFAULT, guessing_keys=5.0)
    assert not world.pass_on(*guesses("203.0.113.90", 1.0, 12)), "with fifteen it would be guessing"
    assert changes(world.database) == []

    # From here on, rows come as they occur.
    assert not world.look(thresholds=strict, settle_seconds=0.2), "what was before is not looked at again"
    (changed,) = changes(world.database)
    assert (changed.section, changed.changed) == ("anomaly_thresholds", ("guessing_keys",))
    assert msgspec.convert(changed.values, Thresholds) == strict
    found_now = world.pass_on(*right_now("203.0.113.91"), thresholds=strict, settle_seconds=0.2)
    assert found_now == [("203.0.113.91", "key_guessing", "medium")]
    assert len(changes(world.database)) == 1, "the same settings again are nothing new"

    assert not world.look(settle_seconds=0.2)
    assert not world.pass_on(*right_now("203.0.113.92"), settle_seconds=0.2)
    assert [one.changed for one in changes(world.database)] == [("guessing_keys",)] * 2

    before = found(world.database, world.vault), remembered(world.database)
    begin_anew(world.database)
    assert not world.look(settle_seconds=0.2)
    assert (found(world.database, world.vault), remembered(world.database)) == before, "whoever reads it again finds it"


def right_now(ip: str) -> list[Line]:
    """Return eight guesses of this moment."""
    lines = guesses(ip, 0.0, 8)
    for number, one in enumerate(lines):
        one.time = moment(datetime.now(UTC).timestamp() + number / 1000)
    return lines


def test_the_process_goes_by_the_file_that_settings_name(world: World, tmp_path: Path) -> None:
    path = tmp_path / "thresholds.toml"
    path.write_text("guessing_keys = 5\n")
    for rows in (8, 16):
        rows_of(world.database, world.data_dir, guesses("203.0.113.90", rows, 8)).put(world.database)
        with WorkerProcess(world.database, "anomaly", world.data_dir, ANOMALY_THRESHOLDS=str(path)) as worker:
            asyncio.run(_passed(world.database, rows))
            assert worker.stop() == 0
    (changed,) = changes(world.database)
    assert changed.changed == ("guessing_keys",)
    assert changed.values["guessing_keys"] == 5.0


async def _passed(database: Database, rows: int) -> None:
    def so() -> bool:
        with database.connect() as connection:
            found = connection.execute("SELECT usage_position FROM consumers WHERE consumer = 'anomaly'").fetchone()
        return found is not None and found["usage_position"] == rows

    async def asked() -> bool:
        return await asyncio.to_thread(so)

    await eventually(asked, 30)
