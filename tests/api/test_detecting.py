"""Detection for one licence, from wherever the worker is, ends where the worker will."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from api import detecting
from cli.composition import running_services
from commands.event_mapper import decoder
from domain.anomalies.thresholds import DEFAULT
from infra.first_start import ensure_credentials
from infra.postgres import Database
from projections.behaviour import CONSUMER
from tests.support.anomalies import recording
from tests.support.detecting import begin_anew, detect, parts_of
from tests.support.fleet_logs import BEGIN, Rows, fleet_lines, rows_of
from tests.support.patience import patience
from tests.support.service import settings_for
from tests.support.usage import issue
from workers.detection import Detection, Parts
from workers.thresholds import change

STEP = 500
SEED = 7
SHARPER = msgspec.structs.replace(DEFAULT, leak_strangers=200, hammer_run=30, hammer_burst=60)


@pytest.fixture(autouse=True)
def unhurried() -> Iterator[None]:
    with patience():
        yield


@pytest.fixture
def rows(database: Database, tmp_path: Path) -> Rows:
    """Give what both logs of the database hold: a fleet's history, with sharper thresholds from the beginning."""
    with recording(database) as record, database.connect() as connection:
        record(change(connection, SHARPER, datetime.fromtimestamp(BEGIN, UTC), decoder()))
    rows = rows_of(database, tmp_path, fleet_lines(SEED, licenses=12, days=8))
    rows.put(database)
    for event in rows.events:
        if event.originator_version == 1:
            issue(database, license_id=event.originator_id, subject_id=event.subject_id)
    return rows


def steps(database: Database, parts: Parts, count: int) -> None:
    """Let the worker look at a part of the logs."""
    with database.connect_worker(CONSUMER) as connection:
        detection = Detection(connection, parts)
        for _ in range(count):
            assert not detection.step().caught_up


def recorded(database: Database) -> set[UUID]:
    with database.connect() as connection:
        rows = connection.execute("SELECT anomaly_id FROM anomalies WHERE license_id IS NOT NULL").fetchall()
    return {row["anomaly_id"] for row in rows}


async def test_it_finds_what_the_worker_finds_later_and_scores_it_the_same(
    database: Database, tmp_path: Path, rows: Rows
) -> None:
    licenses = sorted({event.originator_id for event in rows.events})
    settings = settings_for(tmp_path)
    with parts_of(database, tmp_path, most_rows=STEP, thresholds=SHARPER) as parts:
        steps(database, parts, (len(rows.uses) + len(rows.events)) // STEP // 2)
        before = recorded(database)
        async with running_services(settings, database, ensure_credentials(settings, tmp_path)) as services:
            now = rows.use_lines[-1].time
            early = {one: await detecting.detect(services, now, one) for one in licenses}
            detect(database, parts)
            late = {one: await detecting.detect(services, now, one) for one in licenses}
            begin_anew(database)
            anew = {one: await detecting.detect(services, now, one) for one in licenses}
    later = recorded(database) - before
    assert before, "the first half has nothing to be found"
    assert len(later) >= 3, "the second half has nothing to be found"
    assert {anomaly_id for one in early.values() for anomaly_id, _ in one.found} == later
    assert {one: found.risk for one, found in early.items()} == {one: found.risk for one, found in late.items()}
    assert all(one.complete for one in early.values())
    assert sum(one.observations for one in early.values()) > len(rows.uses) // 4
    assert not any(one.found or one.observations for one in late.values())
    assert not any(one.found for one in anew.values()), "what is recorded is found again as if it were new"
    assert {one: found.risk for one, found in anew.items()} == {one: found.risk for one, found in late.items()}


async def test_both_logs_together_may_be_too_long_for_one_answer(
    database: Database, tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(tmp_path)
    uses = Counter(line.license_id for line in rows.use_lines)
    license_id = UUID(max((one for one in uses if one is not None), key=lambda one: uses[one]))
    now = rows.use_lines[-1].time + timedelta(days=1)
    async with running_services(settings, database, ensure_credentials(settings, tmp_path)) as services:
        everything = await detecting.detect(services, now, license_id)
        monkeypatch.setattr(detecting, "MOST_ROWS", uses[str(license_id)])
        found = await detecting.detect(services, now, license_id)
    assert (everything.complete, everything.as_of.lag_seconds) == (True, 0)
    assert everything.observations > uses[str(license_id)]
    assert not found.complete
    assert found.observations < everything.observations
    assert timedelta(days=1) <= now - found.as_of.time == timedelta(seconds=found.as_of.lag_seconds)
    assert found.as_of.usage_position < everything.as_of.usage_position
