"""Detection for one licence, brought up to now for an answer: what the worker will find, before it has.

The worker waits until late rows have come; here all that is there is taken. It reads, and writes nothing: what it finds
is recorded by the worker, under the same id, unless a late row comes in between.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from math import inf
from uuid import UUID

from api.services import Services
from domain.anomalies.engine import DamagedState, Engine
from domain.anomalies.findings import Finding
from domain.anomalies.risk import RiskScore
from domain.anomaly import anomaly_id
from domain.errors import LicenseNotFound
from projections import anomalies, as_of, licenses, unseen
from projections.anomalies import AnomalyRow
from projections.as_of import AsOf
from projections.detection_rows import Row, add_event, add_use, show
from projections.merging import Placed, Queue, merged
from projections.snapshot import snapshot
from projections.unseen import Unseen

log = logging.getLogger(__name__)

MOST_ROWS = 20_000
"""Rows of a licence that are looked at for one answer: about a second's work. Beyond, it is the worker's."""


@dataclass(frozen=True, slots=True)
class Detected:
    """What is to be said of a licence now.

    `recorded` are all its anomalies in the log, `found` those that are not there yet, with the ids that they will have;
    both the newest first. `observations` counts the rows that were looked at beyond what the worker had, `complete`
    says whether those were all.
    """

    recorded: list[AnomalyRow]
    found: list[tuple[UUID, Finding]]
    risk: RiskScore
    half_life_seconds: int
    observations: int
    complete: bool
    as_of: AsOf


async def detect(services: Services, now: datetime, license_id: UUID, product: str | None = None) -> Detected:
    """Look at a licence as of now. With a `product`, it must be the licence's. Raises LicenseNotFound."""
    async with services.analyses:
        async with services.pool.connection() as connection, snapshot(connection):
            row = await licenses.by_id(connection, license_id)
            if row is None or product not in {None, row.product}:
                raise LicenseNotFound("License not found")
            recorded = await anomalies.of_license(connection, license_id)
            resolved = [one.anomaly_id for one in recorded if one.status != "open"]
            # One more than are looked at tells whether there are more.
            rows = await unseen.of_license(connection, license_id, resolved, services.decode_event, MOST_ROWS + 1)
            await services.senders.remember_async(connection, rows.subjects())
            ends = await as_of.of_views(connection, now)
        return await asyncio.to_thread(_looked, services, license_id, rows, recorded, ends, now)


def _looked(  # noqa: PLR0913, PLR0917 - what was read, and when
    services: Services, license_id: UUID, rows: Unseen, recorded: list[AnomalyRow], ends: AsOf, now: datetime
) -> Detected:
    """Show the rows to an engine. Runs in a thread."""
    engine = Engine(rows.thresholds)
    if rows.state is not None:
        try:
            engine.load_license(str(license_id), rows.state)
        except DamagedState as error:
            # The worker goes on without it too.
            log.error("what is remembered of %s is damaged: %s", license_id, error)  # noqa: TRY400 - it says all
    known = {one.anomaly_id for one in recorded}
    found: list[tuple[UUID, Finding]] = []
    observations, reached = 0, rows.reached
    event_position, usage_position, at = reached.events, reached.usage, max(reached.events_at, reached.usage_at)
    events, uses = _queues(services, rows)
    waiting = len(events.rows) + len(uses.rows)
    taken = 0
    for is_event, placed in islice(merged(events, uses), MOST_ROWS):
        taken += 1
        at = placed.at
        event_position, usage_position = (
            (placed.position, usage_position) if is_event else (event_position, placed.position)
        )
        observations += placed.row.seen is not None
        found.extend((id, finding) for id, finding in _found(engine, placed) if id not in known)
    complete = taken == waiting and len(rows.events) <= MOST_ROWS and len(rows.uses) <= MOST_ROWS
    return Detected(
        recorded=recorded,
        found=found[::-1],
        risk=engine.risk(str(license_id), now.timestamp()),
        half_life_seconds=engine.thresholds.risk_half_life_seconds,
        observations=observations,
        complete=complete,
        as_of=ends if complete else _as_of(event_position, usage_position, at, now),
    )


def _queues(services: Services, rows: Unseen) -> tuple[Queue[Row], Queue[Row]]:
    """Return both logs' rows, opened. Where one was read to its end, nothing of it is still to come."""
    reached, instance = rows.reached, services.keyring.fingerprint
    events: Queue[Row] = Queue(reached.events, reached.events_at, inf if len(rows.events) <= MOST_ROWS else 0.0)
    uses: Queue[Row] = Queue(reached.usage, reached.usage_at, inf if len(rows.uses) <= MOST_ROWS else 0.0)
    for position, event in rows.events[:MOST_ROWS]:
        add_event(events, position, event, services.senders)
    for use in rows.uses[:MOST_ROWS]:
        add_use(uses, use, services.senders, instance)
    return events, uses


def _found(engine: Engine, placed: Placed[Row]) -> Iterator[tuple[UUID, Finding]]:
    """Show a row to the engine. One that it can't take is passed over, as the worker sets it aside."""
    try:
        findings = show(engine, placed.row, placed.at)
    except Exception:
        log.exception("detection failed at position %d", placed.position)
        return
    for finding in findings:
        assert placed.row.seen is not None
        yield anomaly_id(finding.kind, finding.license_id or "", placed.row.seen.id), finding


def _as_of(event_position: int, usage_position: int, at: float, now: datetime) -> AsOf:
    time = min(datetime.fromtimestamp(at, UTC), now)
    return AsOf(
        position=event_position,
        usage_position=usage_position,
        time=time,
        lag_seconds=(now - time).total_seconds(),
    )
