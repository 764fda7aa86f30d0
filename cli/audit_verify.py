"""Checking a database, or an export, against checkpoints."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, LiteralString, NamedTuple

import msgspec
from psycopg import Connection
from psycopg.rows import dict_row, tuple_row

from cli.audit_export import HEADER, Line
from cli.errors import Failure
from cli.output import progress
from domain.audit import checkpoint as notes
from domain.audit.checking import Checking, Claim, Report, StoredRow
from domain.audit.checkpoint import BadCheckpoint, Note, VerifierKey
from domain.audit.checkpoint import Checkpoint as Signed
from domain.audit.merkle import EMPTY_ROOT
from domain.audit.tiles import Tile, TileId
from infra.notary_key import verify
from infra.postgres import Database

ROWS = 5_000
TILES = 64
STEP = 1_000
"""Events between two moves of the progress bar."""

_EVENTS = """
    SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events
    ORDER BY notification_id, originator_id, originator_version
"""
_COUNT = "SELECT count(*) AS events FROM licensing_events"
_LEVELS = "SELECT DISTINCT level FROM audit_tiles ORDER BY level"
_TILES = """
    SELECT level, index, first_position, last_position, root, hashes, event_marks FROM audit_tiles
    WHERE level = %s ORDER BY index
"""
_CHECKPOINTS = "SELECT size, position, root, note FROM audit_checkpoints ORDER BY size"
_KEYS = "SELECT verifier_key FROM audit_keys"
_COVERED = "SELECT coalesce(max(size), 0) AS size FROM audit_checkpoints"
# Whoever owns the database might show one thing to this check and another to the service.
_NO_TABLES = """
    SELECT relname AS name FROM pg_class
    WHERE oid = ANY(ARRAY['licensing_events', 'audit_tiles', 'audit_checkpoints']::regclass[])
        AND (relkind <> 'r' OR relrowsecurity OR relhasrules)
    ORDER BY relname
"""
# The whole check sees one moment, whatever is committed meanwhile.
_ONE_MOMENT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"

_size_of = attrgetter("size")


@dataclass(frozen=True, slots=True)
class Verified:
    """What a check found, against how many trusted checkpoints, and how long it took."""

    report: Report
    trusted: list[Signed]
    seconds: float
    other_keys: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        report = self.report
        return {
            "ok": not report.fault_count,
            "events": report.events,
            "last_position": report.last_position,
            "root": report.root.hex(),
            "trusted_checkpoints": len(self.trusted),
            "covered_by_trusted": max((one.size for one in self.trusted), default=0),
            "stored_checkpoints": report.checkpoints - len(self.trusted),
            "checkpoints_by_other_keys": self.other_keys,
            "tiles": report.tiles,
            "faults": report.faults,
            "fault_count": report.fault_count,
            "seconds": self.seconds,
        }

    def lines(self) -> Iterator[str]:
        """Give it for people, the faults left out."""
        report, covered = self.report, max((one.size for one in self.trusted), default=0)
        yield f"{report.events} events, the last at position {report.last_position}, hashed in {self.seconds:.1f} s"
        yield f"trusted checkpoints: {len(self.trusted)}, which cover the first {covered} events"
        if report.tiles or report.checkpoints > len(self.trusted):
            stored = report.checkpoints - len(self.trusted)
            yield f"compared besides: {report.tiles} stored tiles of the tree, stored checkpoints: {stored}"
        if self.other_keys:
            yield f"stored checkpoints by other keys of this log: {self.other_keys}"
        if not report.fault_count:
            rest = report.events - covered
            yield f"all is as it was signed{f'; events that are newer: {rest}' if rest else ''}"


def trusted_checkpoints(text: str, key: VerifierKey) -> list[Signed]:
    """Return the checkpoints that a text holds, all of which must be signed by a key. Raises Failure."""
    try:
        return [note.verified(key, verify) for note in notes.parse_all(text)]
    except BadCheckpoint as error:
        raise Failure(f"the checkpoint is not good: {error}") from None


def of_database(database: Database, trusted: list[Signed], key: VerifierKey) -> Verified:
    """Check all events, tiles and stored checkpoints of a database."""
    began = time.monotonic()
    with ExitStack() as held:
        connection = held.enter_context(database.connect("lizenzserver-verify", statement_timeout="0"))
        held.enter_context(connection.transaction())
        connection.execute(_ONE_MOMENT)
        stored = _StoredClaims(connection, held, key)
        claims = heapq.merge(_claims(trusted), stored.claims(), key=_size_of)
        covered = max(_number(connection, _COVERED, "size"), *(one.size for one in trusted))
        levels = [row["level"] for row in connection.execute(_LEVELS).fetchall()]
        tiles = {level: _tiles(connection, held, level) for level in levels}
        checking = Checking(claims, covered, tiles)
        for row in connection.execute(_NO_TABLES).fetchall():
            checking.report.blame(f"{row['name']} is no plain table: what the service reads may be something else")
        with progress("Hashing events", _number(connection, _COUNT, "events")) as advance:
            _take_all(checking, _events(connection, held), advance)
        report = checking.finish()
    return Verified(report, trusted, round(time.monotonic() - began, 3), stored.other_keys)


def of_export(path: Path, trusted: list[Signed], key: VerifierKey) -> Verified:
    """Check all events of an export, and the checkpoint in it. Raises Failure where it is none, and OSError."""
    began = time.monotonic()
    with path.open("rb") as file, progress("Hashing events", path.stat().st_size) as advance:
        if file.readline() != HEADER:
            raise Failure(f"{path} is no export of `audit export`")
        lines = _lines(file, path)
        first = next(lines, None)
        claims, is_other = _claims(trusted), False
        if first is not None and first.line.checkpoint is not None:
            own, is_other = _own_claim(first.line.checkpoint, key)
            claims = sorted([*claims, own], key=_size_of)
        checking = Checking(iter(claims), claims[-1].size, None)
        for one in itertools.chain([] if first is None else [first], lines):
            if one.fault:
                checking.report.blame(one.fault)
            if one.line.state is not None:
                checking.take(one.line.row())
            advance(one.length)
        report = checking.finish()
    return Verified(report, trusted, round(time.monotonic() - began, 3), int(is_other))


class _Read(NamedTuple):
    """A line of an export; what is wrong with it as a line, and its length in bytes."""

    line: Line
    fault: str
    length: int


def _lines(file: BinaryIO, path: Path) -> Iterator[_Read]:
    """Read the lines after the header."""
    read = msgspec.json.Decoder(Line).decode
    for number, text in enumerate(file, 2):
        try:
            line = read(text)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Failure(f"{path} line {number} is none of an export: {error}") from None
        is_one = (line.state is None) != (line.checkpoint is None)
        is_in_place = line.checkpoint is None or number == 2  # noqa: PLR2004 - after the header
        is_good = is_one and is_in_place and line.spelled() == text
        yield _Read(line, "" if is_good else f"line {number} is not as it was written", len(text))


def _take_all(checking: Checking, rows: Iterator[StoredRow], advance: Callable[[int], None]) -> None:
    count = 0
    for count, row in enumerate(rows, 1):
        checking.take(row)
        if count % STEP == 0:
            advance(STEP)
    advance(count % STEP)


def _claims(trusted: list[Signed]) -> list[Claim]:
    claims = [Claim(one.size, one.root, f"the trusted checkpoint of {one.size}") for one in trusted]
    return sorted(claims, key=_size_of)


class _StoredClaims:
    """What stored checkpoints claim, the smallest first; `other_keys` counts those that other keys have signed."""

    def __init__(self, connection: Connection[Any], held: ExitStack, key: VerifierKey) -> None:
        self._cursor = held.enter_context(connection.cursor("checkpoints", row_factory=dict_row))
        self._key = key
        self._keys = [key, *_keys_of(connection)]
        self.other_keys = 0

    def claims(self) -> Iterator[Claim]:
        self._cursor.itersize = ROWS
        self._cursor.execute(_CHECKPOINTS)
        for row in self._cursor:
            yield Claim(
                row["size"], row["root"], f"the stored checkpoint of {row['size']}", row["position"], self._fault(row)
            )

    def _fault(self, row: dict[str, Any]) -> str:
        note, fault = _opened(row["note"], self._keys)
        if note is None:
            return fault
        if not any(note.is_by(key) for key in self._keys):
            return "is signed by no key of which the database knows"
        self.other_keys += not note.is_by(self._key)
        differs = (note.checkpoint.size, note.checkpoint.root) != (row["size"], row["root"])
        return "says other than its note" if differs else ""


def _keys_of(connection: Connection[Any]) -> Iterator[VerifierKey]:
    for row in connection.execute(_KEYS).fetchall():
        with suppress(BadCheckpoint):
            yield VerifierKey.parse(row["verifier_key"])


def _own_claim(text: str, key: VerifierKey) -> tuple[Claim, bool]:
    """Return what the checkpoint in an export claims, and whether it is signed by another key."""
    note, fault = _opened(text, [key])
    if note is None:
        return Claim(0, EMPTY_ROOT, "the checkpoint in the export", fault=fault), False
    return Claim(note.checkpoint.size, note.checkpoint.root, "the checkpoint in the export"), not note.is_by(key)


def _opened(text: str, keys: Sequence[VerifierKey]) -> tuple[Note | None, str]:
    """Return a checkpoint whose signatures by these keys are right, or what is wrong with it."""
    try:
        note = notes.parse(text)
        for key in keys:
            if note.is_by(key):
                note.verified(key, verify)
    except BadCheckpoint as error:
        return None, f"is not good: {error}"
    return note, ""


def _number(connection: Connection[Any], query: LiteralString, column: str) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[column])


def _events(connection: Connection[Any], held: ExitStack) -> Iterator[StoredRow]:
    cursor = held.enter_context(connection.cursor("events", row_factory=tuple_row))
    cursor.itersize = ROWS
    cursor.execute(_EVENTS, binary=True)
    for row in cursor:
        yield StoredRow(*row)


def _tiles(connection: Connection[Any], held: ExitStack, level: int) -> Iterator[Tile]:
    cursor = held.enter_context(connection.cursor(f"tiles_{abs(level)}_{level < 0}", row_factory=dict_row))
    cursor.itersize = TILES
    cursor.execute(_TILES, (level,), binary=True)
    for row in cursor:
        columns = (row["first_position"], row["last_position"], row["root"], row["hashes"], row["event_marks"])
        yield Tile(TileId(row["level"], row["index"]), *columns)
