"""Checking a database, or an export, against checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from psycopg import Connection
from psycopg.rows import dict_row, tuple_row

from cli.audit_export import Header, Line
from cli.errors import Failure
from cli.output import progress
from domain.audit import checkpoint as notes
from domain.audit.checking import Checking, Claim, Report, StoredRow
from domain.audit.checkpoint import BadCheckpoint, VerifierKey
from domain.audit.checkpoint import Checkpoint as Signed
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
# The whole check sees one moment, whatever is committed meanwhile.
_ONE_MOMENT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"


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
        yield f"compared with {len(self.trusted)} trusted checkpoints, which cover the first {covered} events"
        if report.tiles or report.checkpoints > len(self.trusted):
            stored = report.checkpoints - len(self.trusted)
            yield f"compared with {report.tiles} stored tiles of the tree and {stored} stored checkpoints"
        if self.other_keys:
            yield f"{self.other_keys} stored checkpoints are signed by other keys: their roots were compared"
        if not report.fault_count:
            rest = report.events - covered
            yield f"all is as it was signed{f'; {rest} events are newer' if rest else ''}"


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
        claims, bad, other_keys = _stored_claims(connection, key)
        levels = [row["level"] for row in connection.execute(_LEVELS).fetchall()]
        tiles = {level: _tiles(connection, held, level) for level in levels}
        checking = Checking([*_claims(trusted), *claims], tiles)
        for fault in bad:
            checking.report.blame(fault)
        row = connection.execute(_COUNT).fetchone()
        assert row is not None
        with progress("Hashing events", row["events"]) as advance:
            _take_all(checking, _events(connection, held), advance)
        report = checking.finish()
    return Verified(report, trusted, round(time.monotonic() - began, 3), other_keys)


def of_export(path: Path, trusted: list[Signed]) -> Verified:
    """Check all events of an export. Raises Failure where it is none, and OSError."""
    began = time.monotonic()
    checking = Checking(_claims(trusted), None)
    with path.open("rb") as file, progress("Hashing events", path.stat().st_size) as advance:
        _header(file.readline(), path)
        read = msgspec.json.Decoder(Line).decode
        for number, line in enumerate(file, 2):
            try:
                found = read(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise Failure(f"{path} line {number} is none of an export: {error}") from None
            if found.state is not None:
                checking.take(found.row())
            advance(len(line))
    return Verified(checking.finish(), trusted, round(time.monotonic() - began, 3))


def _header(line: bytes, path: Path) -> None:
    try:
        msgspec.json.decode(line, type=Header)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Failure(f"{path} is no export of `audit export`") from None


def _take_all(checking: Checking, rows: Iterator[StoredRow], advance: Callable[[int], None]) -> None:
    count = 0
    for count, row in enumerate(rows, 1):
        checking.take(row)
        if count % STEP == 0:
            advance(STEP)
    advance(count % STEP)


def _claims(trusted: list[Signed]) -> list[Claim]:
    return [Claim(one.size, one.root, f"the trusted checkpoint of {one.size}") for one in trusted]


def _stored_claims(connection: Connection[Any], key: VerifierKey) -> tuple[list[Claim], list[str], int]:
    """Return what stored checkpoints claim, what is wrong with them, and how many are signed by other keys."""
    claims: list[Claim] = []
    bad: list[str] = []
    other_keys = 0
    for row in connection.execute(_CHECKPOINTS).fetchall():
        by = f"the stored checkpoint of {row['size']}"
        claims.append(Claim(row["size"], row["root"], by, row["position"]))
        try:
            note = notes.parse(row["note"])
            if note.is_by(key):
                note.verified(key, verify)
            else:
                other_keys += 1
        except BadCheckpoint as error:
            bad.append(f"{by} is not good: {error}")
            continue
        if (note.checkpoint.size, note.checkpoint.root) != (row["size"], row["root"]):
            bad.append(f"{by} says other than its note")
    return claims, bad, other_keys


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
