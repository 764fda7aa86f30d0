"""Detection over both logs: reads rows, shows them to the engine in order, and keeps what it found and remembers.

What is found is recorded in the transaction that stores the states and the positions they are of. So a process that is
ended at any point has either done a step or not begun it.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol
from uuid import UUID, uuid4, uuid5

from psycopg import Connection

from domain.anomalies.engine import DamagedState, Engine
from domain.anomalies.findings import Finding
from domain.anomalies.thresholds import Thresholds
from domain.anomaly import anomaly_id
from domain.facts import AnomalyDetected, AnomalyResolved, Cause, CustomerErased, Recorded, SettingsChanged
from infra.senders import Senders
from projections import behaviour, dead_letters
from projections.behaviour import Reached
from projections.detection_rows import Row, one_line, show
from projections.projection import Log
from projections.reading import Decode
from projections.thresholds import in_force
from workers.intake import SETTLE_SECONDS, Intake, Taken
from workers.thresholds import change
from workers.turns import Turn

log = logging.getLogger(__name__)

MOST_ROWS = 5_000
"""Rows of one step, and of each log that are read ahead."""
RESIDENT = 2_000
"""Licences whose states stay in memory: about 30 KB each."""

_AT_ONCE = 1_000
"""Rows whose licences' states are loaded together."""
_FORGET_EVERY_SECONDS = 3600.0

_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8 AS now"

Seal = Callable[[UUID, Any], bytes]
"""Seals a value under a data subject's key, which is in memory."""


class Record(Protocol):
    """Appends events to the log."""

    def __call__(
        self, connection: Connection[Any], events: Sequence[Recorded], first: Callable[[Connection[Any]], object]
    ) -> None:
        """Do `first`, and append events, in one transaction."""


class Parts(NamedTuple):
    """What detection works with. `instance` names the installation, `thresholds` are those of the settings."""

    decode: Decode
    senders: Senders
    seal: Seal
    record: Record
    instance: str
    thresholds: Thresholds
    settle_seconds: float = SETTLE_SECONDS
    most_rows: int = MOST_ROWS


class _SetAside(NamedTuple):
    """A row that detection goes without, and why."""

    log: Log
    position: int
    reason: str
    error: Exception | None = None


class Detection:
    """What one process has in memory, from the stored positions on. After an error it is of no use any more."""

    def __init__(self, connection: Connection[Any], parts: Parts) -> None:
        """Read how far detection has come, and record the settings where they have changed."""
        self._connection = connection
        self._parts = parts
        self._reached = behaviour.reached(connection)
        self._intake = Intake(
            self._reached, parts.decode, parts.senders, parts.instance, parts.settle_seconds, parts.most_rows
        )
        self._engine = Engine(in_force(connection, self._reached.events, parts.decode))
        self._stored_addresses: set[str] = set()
        for address, state in behaviour.addresses(connection):
            _take(self._engine.load_address, address, state)
            self._stored_addresses.add(address)
        self._resident: OrderedDict[str, None] = OrderedDict()
        self._touched: set[str] = set()
        self._touched_addresses: set[str] = set()
        self._found: list[Recorded] = []
        self._set_aside: list[_SetAside] = []
        self._forgot_at = 0.0
        self._record_settings()

    def step(self) -> Turn:
        """Read what is new, look at what is in order, and store what came of it."""
        now = self._now()
        at_ends = self._intake.read(self._connection, now)
        old = self._reached
        passed = self._pass(now)
        if self._reached != old:
            self._store(old)
        return Turn(
            more=passed >= self._parts.most_rows or (passed > 0 and not at_ends),
            caught_up=at_ends and not self._intake.is_waiting,
            event_position=self._reached.events,
            usage_position=self._reached.usage,
        )

    def _now(self) -> float:
        row = self._connection.execute(_CLOCK).fetchone()
        assert row is not None
        now: float = row["now"]
        return now

    def _record_settings(self) -> None:
        now = datetime.fromtimestamp(self._now(), UTC)
        event = change(self._connection, self._parts.thresholds, now, self._parts.decode)
        if event is not None:
            self._parts.record(self._connection, [event], lambda _: None)
            assert isinstance(event.fact, SettingsChanged)
            log.info("detection goes by other thresholds from here on: %s", ", ".join(event.fact.changed))

    def _pass(self, now: float) -> int:
        """Show rows to the engine while their order is known, up to one step's; return how many."""
        passed = 0
        while batch := self._intake.take(min(_AT_ONCE, self._parts.most_rows - passed)):
            self._load({name for taken in batch if (name := taken.row.license_id) is not None})
            # Rows may have waited for long since they were opened: what is found of an address is sealed again.
            self._parts.senders.remember(
                self._connection, (taken.row.subject_id for taken in batch if taken.row.tells_address)
            )
            for taken in batch:
                if isinstance(taken.row.word, CustomerErased):
                    self._begin_anew(taken.row.word)
                self._look(taken, now)
            self._reached = batch[-1].reached
            passed += len(batch)
        return passed

    def _load(self, license_ids: set[str]) -> None:
        """Have the states of licences in memory."""
        missing = [license_id for license_id in license_ids if not self._engine.knows_license(license_id)]
        for license_id, state in behaviour.licenses(self._connection, missing):
            _take(self._engine.load_license, license_id, state)
        for license_id in sorted(license_ids):
            self._resident[license_id] = None
            self._resident.move_to_end(license_id)

    def _begin_anew(self, word: CustomerErased) -> None:
        """Forget who used the licences of whoever was erased. What is left of each is small, and stored with the step.

        In parts: there may be very many, and what is remembered of one is not small before.
        """
        for start in range(0, len(word.license_ids), _AT_ONCE):
            names = set(map(str, word.license_ids[start : start + _AT_ONCE]))
            self._load(names)
            for name in names:
                self._engine.begin_anew(name)
            self._touched |= names

    def _look(self, taken: Taken, now: float) -> None:
        """Show one row to the engine. What it can't take is set aside, and detection goes on without."""
        if taken.row.error is not None:
            self._set_aside.append(_SetAside(taken.log, taken.position, taken.row.error))
            return
        try:
            self._show(taken, now)
        except Exception as error:  # noqa: BLE001 - logged once it is stored
            self._set_aside.append(_SetAside(taken.log, taken.position, one_line(error), error))

    def _show(self, taken: Taken, now: float) -> None:
        row = taken.row
        if row.license_id is not None:
            self._touched.add(row.license_id)
        if row.seen is not None and row.seen.address is not None:
            self._touched_addresses.add(row.seen.address)
        elif isinstance(row.word, AnomalyResolved) and row.word.address_hash is not None:
            self._touched_addresses.add(row.word.address_hash.hex())
        self._found.extend(self._recorded(finding, row, now) for finding in show(self._engine, row, taken.at))

    def _recorded(self, finding: Finding, row: Row, now: float) -> Recorded:
        """Return the event that records a finding; the same one, with the same id, however often it is found."""
        subject = finding.license_id or finding.address or ""
        assert row.seen is not None
        id = anomaly_id(finding.kind, subject, row.seen.id)
        sealed = {}
        if finding.address is not None and row.address is not None and self._has_key(row.subject_id):
            assert row.subject_id is not None
            sealed["address"] = self._parts.seal(row.subject_id, row.address)
        fact = AnomalyDetected(
            kind=finding.kind,
            severity=finding.severity,
            found_at=datetime.fromtimestamp(finding.time, UTC),
            explanation=finding.explanation,
            license_id=None if finding.license_id is None else UUID(finding.license_id),
            address_hash=None if finding.address is None else bytes.fromhex(finding.address),
            evidence=finding.evidence,
            sealed=sealed,
        )
        return Recorded(
            originator_id=id,
            originator_version=1,
            event_id=uuid5(id, "detected"),
            occurred_at=datetime.fromtimestamp(now, UTC),
            subject_id=row.subject_id,
            cause=Cause(actor="job:anomaly", command="DetectAnomalies", command_id=uuid4(), request_id=str(uuid4())),
            fact=fact,
        )

    def _has_key(self, subject_id: UUID | None) -> bool:
        """Tell whether something can be sealed for a data subject, which may have been erased by now."""
        return subject_id is not None and not self._parts.senders.forgotten([subject_id])

    def _store(self, old: Reached) -> None:
        def store(connection: Connection[Any]) -> None:
            behaviour.move(connection, old, self._reached)
            self._store_states(connection)
            for one in self._set_aside:
                dead_letters.set_aside(connection, behaviour.CONSUMER, one.log, one.position, one.reason)

        events = self._unrecorded()
        if events:
            self._parts.record(self._connection, events, store)
        else:
            with self._connection.transaction():
                store(self._connection)
        # Not before: a step that can't be stored is taken again every two seconds.
        for one in self._set_aside:
            log.error("position %d of %s is set aside: %s", one.position, one.log, one.reason, exc_info=one.error)
        for event in events:
            _say(event)
        self._found.clear()
        self._set_aside.clear()
        self._touched.clear()
        self._touched_addresses.clear()
        self._stored_addresses = set(self._engine.addresses())
        while len(self._resident) > RESIDENT:
            license_id, _ = self._resident.popitem(last=False)
            self._engine.forget_license(license_id)

    def _unrecorded(self) -> list[Recorded]:
        """Return what was found now; where somebody has set the positions back, much of it is in the log already."""
        if not self._found:
            return []
        rows = self._connection.execute(
            "SELECT originator_id FROM licensing_events WHERE originator_id = ANY(%s)",
            ([event.originator_id for event in self._found],),
        ).fetchall()
        known = {row["originator_id"] for row in rows}
        new = {event.originator_id: event for event in self._found if event.originator_id not in known}
        return list(new.values())

    def _store_states(self, connection: Connection[Any]) -> None:
        engine = self._engine
        licenses = self._touched & set(engine.licenses())
        behaviour.keep_licenses(connection, ((name, engine.save_license(name)) for name in licenses))
        if self._reached.usage_at - self._forgot_at > _FORGET_EVERY_SECONDS:
            self._forgot_at = self._reached.usage_at
            engine.forget_addresses(self._reached.usage_at)
        known = set(engine.addresses())
        addresses = self._touched_addresses & known
        rows = ((name, engine.address_last_seen(name), engine.save_address(name)) for name in addresses)
        behaviour.keep_addresses(connection, rows)
        behaviour.drop_addresses(connection, self._stored_addresses - known)


def _take(load: Callable[[str, bytes], None], name: str, state: bytes) -> None:
    """Have a state in memory. One that is damaged must not hold up all others: its licence or address begins anew."""
    try:
        load(name, state)
    except DamagedState as error:
        log.error("what is remembered of %s is damaged, and begins anew: %s", name, error)  # noqa: TRY400 - it says all


def _say(event: Recorded) -> None:
    """Log what was recorded, without an address: where there is no broker, nothing else tells of it by itself."""
    fact = event.fact
    assert isinstance(fact, AnomalyDetected)
    subject = "an address" if fact.license_id is None else f"licence {fact.license_id}"
    log.warning("anomaly %s: %s %s of %s", event.originator_id, fact.severity, fact.kind, subject)
