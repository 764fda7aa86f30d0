"""What must hold whatever happened, counted from the logs, the views and what clients were answered.

L: each command that was told a success has exactly one set of events; each other has none.
S: seats in use are never more than there are, at any position.
D: nobody applied a row of a log twice, and nobody who should have it went without.
P: each view equals the fold of its log, and has come to its end.
V: each checkpoint that was kept elsewhere is that of the log.
X: nothing is answered with a 5xx, but 503 by a server that is down.

The folds are the tests' own (`seat_fold`, `naive_usage`): none of the service's code reads a log here.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import Connection

from infra.postgres import Database
from tests.support import naive_usage
from tests.support.answers import Answers
from tests.support.queue_consumer import count_of
from tests.support.seat_fold import Event, Finding, Row, Rows, SeatFold, event_of
from tests.support.signed_log import LogTree, Signed
from tests.support.usage import Use

PROJECTIONS = ("usage", "devices-seen", "seats")
"""The projector's consumers."""

_SHOWN = 20
POLL_SECONDS = 0.1

_EVENTS = """
    SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events
    WHERE notification_id > %s ORDER BY 1
"""
_USES = """
    SELECT id, occurred_at, license_id, hardware_id, type, country, app_version, reason, client_time
    FROM usage
    WHERE id > %s ORDER BY 1
"""
_COLUMNS = {
    "licenses": "license_id, position, key_digest, key_sealed, subject_id, customer_id_sealed, email_sealed,"
    " metadata_sealed, product, edition, max_devices, current_devices, features, is_active, is_test, floating, epoch,"
    " created_at, expires_at",
    "devices": "license_id, device_digest, hardware_id, activation_id, is_active, activated_at, deactivated_at,"
    " device_name_sealed, os_info_sealed",
    "api_keys": "key_id, position, key_digest, client_name, allowed_endpoints, requests_per_minute, requests_per_hour,"
    " product, created_at, expires_at, revoked_at",
    "anomalies": "anomaly_id, position, kind, severity, license_id, address_hash, subject_id, address_sealed,"
    " explanation, evidence, found_at, recorded_at, status, resolved_at, resolved_by, reason_sealed",
    "seat_changes": "license_id, position, at, activations, deactivations, allowed",
    "seat_days": "day, activations, deactivations",
}
"""All that follows from the log alone; an e-mail's lookup hash needs the service's keys."""

_KEYS = {
    "licenses": ("license_id",),
    "devices": ("license_id", "device_digest"),
    "api_keys": ("key_id",),
    "anomalies": ("anomaly_id",),
    "seat_changes": ("license_id", "position"),
    "seat_days": ("day",),
}
_OF_LICENSES = {"usage_hours": 0, "usage_days": 1, "usage_facets": 0, "device_days": 0, "device_sightings": 0}
_OF_LICENSES |= {"device_sessions": 0}
"""Tables over the usage log with rows of licences, and which of their columns has the licence's id."""


@dataclass
class Report:
    """What was found, and how much was looked at."""

    findings: list[Finding] = field(default_factory=list)
    figures: dict[str, int] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return not self.findings

    def broken(self) -> set[str]:
        """Return the invariants that do not hold."""
        return {finding.invariant for finding in self.findings}

    def of(self, invariant: str) -> list[str]:
        return [finding.text for finding in self.findings if finding.invariant == invariant]

    def __str__(self) -> str:
        shown = [str(finding) for finding in self.findings[:_SHOWN]]
        if len(self.findings) > _SHOWN:
            shown.append(f"and {len(self.findings) - _SHOWN} more")
        return "\n".join([*shown, str(self.figures)])


def check(  # noqa: PLR0913 - one argument an option
    database: Database,
    answers: Answers | None = None,
    *,
    queues: Iterable[Path] = (),
    signed: Signed | None = None,
    settled: bool = True,
    consumers: Iterable[str] = (),
    patience: float = 0.0,
) -> Report:
    """Read everything and say what does not hold.

    `answers` is what clients were told, `queues` are what queue consumers have stored (`queue_consumer`), `signed` is
    what the notary has sent away. `settled` says that the projector should have come to the logs' ends, and
    `consumers` who else; without it only what is written with the events is compared. `patience` is for how many
    seconds to wait for them, and for uses that were answered before they were stored.
    """
    checker = Checker(database, queues=queues, signed=signed)
    return checker.check(answers, settled=settled, consumers=consumers, patience=patience)


class Checker:
    """A check that goes on where it was: each call reads only what the logs hold since, and all rows that it touches.

    A new one reads everything.
    """

    def __init__(self, database: Database, *, queues: Iterable[Path] = (), signed: Signed | None = None) -> None:
        self._database = database
        self._queues = [_Queue(path) for path in queues]
        self._signed = signed
        self._tree = LogTree()
        self._fold = SeatFold()
        self._commands: dict[str, tuple[str, int]] = {}
        self._uses: defaultdict[UUID | None, list[Use]] = defaultdict(list)
        self._used: set[UUID | None] = set()
        self._marks: Counter[datetime] = Counter()
        self._twice: list[datetime] = []
        self._ids: dict[str, dict[int, str]] = {"events": {}, "usage": {}}
        self._events_at = 0
        self._usage_at = 0
        self._is_first = True

    def check(
        self,
        answers: Answers | None = None,
        *,
        settled: bool = True,
        consumers: Iterable[str] = (),
        patience: float = 0.0,
    ) -> Report:
        """Read on, and say what does not hold."""
        report = Report()
        deadline = time.monotonic() + patience
        names = (*PROJECTIONS, *consumers) if settled else ()
        while not self._look(report, names, answers, deadline):
            time.sleep(POLL_SECONDS)
        for queue in self._queues:
            report.findings += queue.check(self._ids, deadline)
        if self._signed is not None:
            report.findings += self._signed.check(self._tree)
        if answers is not None:
            report.findings += answers.findings
            report.findings += self._outcomes(answers)
            report.findings += self._stored_uses(answers)
        report.figures = {
            "events": len(self._ids["events"]),
            "uses": len(self._ids["usage"]),
            "licences": len(self._fold.licenses),
            "anomalies": len(self._fold.anomalies),
            "repeats": sum(queue.repeats for queue in self._queues),
        }
        return report

    def _look(self, report: Report, consumers: tuple[str, ...], answers: Answers | None, deadline: float) -> bool:
        """Look at the database as it is at one moment; return False where it would be worth while to wait."""
        with self._database.connect() as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            lags = _lags(connection, consumers)
            may_wait = time.monotonic() < deadline
            if lags and may_wait:
                return False
            self._read_events(connection)
            self._read_usage(connection)
            if may_wait and answers is not None and self._unstored(answers):
                return False
            report.findings += self._fold.findings
            self._fold.findings = []
            self._compare(connection, report, settled=bool(consumers))
            if consumers:
                self._compare_usage(connection, report)
            report.findings += lags + _set_aside(connection) + self._snapshots(connection)
        self._fold.touched = set()
        self._used = set()
        self._is_first = False
        return True

    def _read_events(self, connection: Connection[Any]) -> None:
        for row in connection.execute(_EVENTS, (self._events_at,)):
            event = event_of(row)
            self._fold.apply(event)
            self._tree.add(row)
            self._note_command(event)
            self._ids["events"][event.position] = str(event.id)
            self._events_at = event.position
        count = _count(
            connection, "SELECT count(*) AS n FROM licensing_events WHERE notification_id <= %s", self._events_at
        )
        if count != len(self._ids["events"]):
            self._fold.findings.append(Finding("L", f"{len(self._ids['events'])} events were there, now it is {count}"))

    def _note_command(self, event: Event) -> None:
        request_id, command_id = event.cause["request_id"], event.cause["command_id"]
        first, events = self._commands.get(request_id, (command_id, 0))
        if first != command_id:
            self._fold.findings.append(
                Finding("L", f"{request_id} was carried out twice, again at position {event.position}")
            )
        self._commands[request_id] = (first, events + 1)

    def _read_usage(self, connection: Connection[Any]) -> None:
        for row in connection.execute(_USES, (self._usage_at,)):
            use = Use(*(row[name] for name in ("occurred_at", *Use._fields[1:])))
            self._uses[use.license_id].append(use)
            self._used.add(use.license_id)
            if (mark := row["client_time"]) is not None:
                self._marks[mark] += 1
                if self._marks[mark] > 1:
                    self._twice.append(mark)
            self._ids["usage"][row["id"]] = ""
            self._usage_at = row["id"]
        count = _count(connection, "SELECT count(*) AS n FROM usage WHERE id <= %s", self._usage_at)
        if count != len(self._ids["usage"]):
            self._fold.findings.append(Finding("L", f"{len(self._ids['usage'])} uses were there, now it is {count}"))

    def _compare(self, connection: Connection[Any], report: Report, *, settled: bool) -> None:
        for name, columns in _COLUMNS.items():
            if name.startswith("seat") and not settled:
                continue
            key = _KEYS[name]
            fold: Rows = getattr(self._fold, name)
            touched = list(self._fold.touched)
            if self._is_first or name == "seat_days":
                rows = connection.execute(f"SELECT {columns} FROM {name}").fetchall()
            else:
                rows = connection.execute(
                    f"SELECT {columns} FROM {name} WHERE {key[0]} = ANY(%s)", (touched,)
                ).fetchall()
                fold = self._touched(name, fold, touched)
            differing = _differing(name, {_key(row, key): row for row in rows}, fold)
            whole: Rows = getattr(self._fold, name)
            count = _count(connection, f"SELECT count(*) AS n FROM {name}")
            if count != len(whole) and not differing:
                differing.append(Finding("P", f"{count} rows of {name}, and {len(whole)} in the fold of the log"))
            report.findings += differing

    def _snapshots(self, connection: Connection[Any]) -> list[Finding]:
        """P: no snapshot is of a version that the log does not have."""
        versions = self._fold.versions
        return [
            Finding("P", f"the snapshot of {row['license_id']} is of version {row['version']}, which has not been")
            for row in connection.execute("SELECT license_id, version FROM license_snapshots")
            if row["version"] > versions.get(row["license_id"], 0)
        ]

    def _touched(self, name: str, fold: Rows, touched: list[UUID]) -> Rows:
        if len(_KEYS[name]) == 1:
            return {one: fold[one] for one in touched if one in fold}
        among = set(touched)
        return {one: row for one, row in fold.items() if one[0] in among}

    def _compare_usage(self, connection: Connection[Any], report: Report) -> None:
        if self._is_first:
            expected = naive_usage.fold(use for uses in self._uses.values() for use in uses)
            for name, rows in expected.items():
                found = {tuple(row.values()) for row in connection.execute(f"SELECT * FROM {name}").fetchall()}
                report.findings += _differing_tuples(name, found, rows)
            return
        expected = naive_usage.fold(use for license_id in self._used for use in self._uses[license_id])
        known = [license_id for license_id in self._used if license_id is not None]
        for name in _OF_LICENSES:
            query = f"SELECT * FROM {name} WHERE license_id = ANY(%s)"
            found = {tuple(row.values()) for row in connection.execute(query, (known,)).fetchall()}
            report.findings += _differing_tuples(name, found, expected[name])

    def _outcomes(self, answers: Answers) -> list[Finding]:
        """L: compare what each command was told with what it has in the log."""
        found = []
        for request_id, outcome in answers.outcomes.items():
            _, events = self._commands.get(request_id, ("", 0))
            if outcome.status is None or outcome.status == 503:
                if events and not outcome.least <= events <= outcome.most:
                    found.append(Finding("L", f"{request_id} has no answer, and {events} events: a part of its set"))
            elif not outcome.allows(events):
                found.append(Finding("L", f"{request_id} was told {outcome.status} and has {events} events"))
        if answers.is_complete:
            unasked = [one for one in self._commands if one not in answers.outcomes and answers.is_mine(one)]
            found += [Finding("L", f"nobody asked for {one}, and it has events") for one in unasked]
        return found

    def _stored_uses(self, answers: Answers) -> list[Finding]:
        """Compare validations with the usage log: none is in it twice, each that is sure to be stored is in it."""
        twice = [
            Finding("D", f"the use of {mark.isoformat()} is stored {self._marks[mark]} times")
            for mark in self._twice
            if mark in answers.uses
        ]
        return twice + [
            Finding("L", f"the use of {mark.isoformat()} was answered and is not stored")
            for mark in self._unstored(answers)
        ]

    def _unstored(self, answers: Answers) -> list[datetime]:
        return [
            mark for mark, use in answers.uses.items() if use.is_sure and use.status == 200 and not self._marks[mark]
        ]


class _Queue:
    """What a queue consumer has stored, read on from call to call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._row = 0
        self._found: dict[str, dict[int, str]] = {"events": {}, "usage": {}}
        self._ahead: list[tuple[str, str, str]] = []
        self._types: Counter[str] = Counter()
        self._applied: dict[str, int] = {}
        self.repeats = 0

    def check(self, ids: Mapping[str, Mapping[int, str]], deadline: float) -> list[Finding]:
        """Compare with the logs' positions and, for events, ids: each was applied exactly once.

        What came since the logs were read is left for the next time.
        """
        rows = sum(len(positions) for positions in ids.values())
        while count_of(self._path) < rows and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        found: list[Finding] = []
        ahead, self._ahead = [*self._ahead, *self._read()], []
        ends = {log: max(positions, default=0) for log, positions in ids.items()}
        for id, source, sequence in ahead:
            log, position = source.rpartition("/")[2], int(sequence)
            if position > ends[log]:
                self._ahead.append((id, source, sequence))
                continue
            if wrong := self._wrong(ids[log], log, position, id):
                found.append(Finding("D", f"{self._path.name}: position {position} of {log} {wrong}"))
            self._found[log][position] = id
        for log, positions in ids.items():
            missing = positions.keys() - self._found[log].keys()
            if missing:
                shown = sorted(missing)[:3]
                found.append(
                    Finding("D", f"{self._path.name}: {len(missing)} rows of {log} never came, such as {shown}")
                )
        for type, new in self._applied.items():
            if new != self._types[type]:
                text = f"{self._path.name}: {new} of {type} were applied, and {self._types[type]} came"
                found.append(Finding("D", text))
        return found

    def _wrong(self, ids: Mapping[int, str], log: str, position: int, id: str) -> str:
        if position in self._found[log]:
            return "was applied twice"
        if position not in ids:
            return "is not in the log"
        return "" if ids[position] in {"", id} else f"came as {id}"

    def _read(self) -> list[tuple[str, str, str]]:
        """Read on; return id, source and sequence of what is new."""
        with closing(sqlite3.connect(self._path, timeout=30)) as database:
            database.execute("BEGIN")
            rows = database.execute(
                "SELECT number, id, source, sequence, type FROM applied WHERE number > ? ORDER BY 1", (self._row,)
            ).fetchall()
            tallies = database.execute("SELECT type, applied, repeats FROM tallies").fetchall()
        self._types.update(row[4] for row in rows)
        self._row = max((row[0] for row in rows), default=self._row)
        self._applied = {type: applied for type, applied, _ in tallies}
        self.repeats = sum(repeats for _, _, repeats in tallies)
        return [(id, source, sequence) for _, id, source, sequence, _ in rows]


def _lags(connection: Connection[Any], names: Iterable[str]) -> list[Finding]:
    rows = connection.execute("SELECT consumer, event_position, usage_position FROM consumers").fetchall()
    ends = {
        "event": _count(connection, "SELECT coalesce(max(notification_id), 0) AS n FROM licensing_events"),
        "usage": _count(connection, "SELECT coalesce(max(id), 0) AS n FROM usage"),
    }
    reached = {row["consumer"]: row for row in rows}
    found = []
    for name in names:
        row = reached.get(name)
        if row is None:
            found.append(Finding("P", f"{name} has no position"))
            continue
        for log, end in ends.items():
            at = row[f"{log}_position"]
            if at is not None and at < end:
                found.append(Finding("P", f"{name} is at {at} of the {log} log, which ends at {end}"))
    return found


def _set_aside(connection: Connection[Any]) -> list[Finding]:
    rows = connection.execute("SELECT consumer, log, position, error FROM dead_letters").fetchall()
    return [
        Finding("P", f"{row['consumer']} has set aside {row['position']} of {row['log']}: {row['error']}")
        for row in rows
    ]


def _differing(name: str, found: Rows, fold: Rows) -> list[Finding]:
    keys = [key for key in found.keys() | fold.keys() if found.get(key) != fold.get(key)]
    return [Finding("P", f"a row of {name} differs: {_differences(found.get(key), fold.get(key))}") for key in keys]


def _differences(found: Row | None, fold: Row | None) -> str:
    if found is None or fold is None:
        return f"it is {found}, the log says {fold}"
    return ", ".join(
        [
            *(f"{name}={found[name]}" for name in list(found)[:2]),
            *(f"{name} is {found[name]}, the log says {fold[name]}" for name in found if found[name] != fold[name]),
        ]
    )


def _differing_tuples(name: str, found: naive_usage.Table, fold: naive_usage.Table) -> list[Finding]:
    return [
        *(Finding("P", f"a row of {name} differs: the log does not say {row}") for row in found - fold),
        *(Finding("P", f"a row of {name} differs: the log says {row}") for row in fold - found),
    ]


def _key(row: Row, names: tuple[str, ...]) -> Any:
    values = tuple(bytes(value) if isinstance(value := row[name], memoryview) else value for name in names)
    return values[0] if len(values) == 1 else values


def _count(connection: Connection[Any], query: str, *parameters: Any) -> int:
    row = connection.execute(query, parameters or None).fetchone()
    assert row is not None
    count: int = row["n"]
    return count
