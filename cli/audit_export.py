"""The event log as a file that can be checked without the service: lines of JSON.

The first line is a header, the second the last checkpoint, if there is one, then comes a line an event, in the order of
positions. Each line has one right spelling: what is spelled otherwise was changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from psycopg.rows import tuple_row

from cli.output import progress
from cli.private_file import draft_of
from domain.audit.checking import StoredRow
from infra.postgres import Database

_BYTES_A_WRITE = 1 << 20
_ROWS = 5_000

_EVENTS = """
    SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events
    ORDER BY notification_id, originator_id, originator_version
"""
_COUNT = "SELECT count(*) AS events FROM licensing_events"
_NOTE = "SELECT note FROM audit_checkpoints ORDER BY size DESC LIMIT 1"
_ONE_MOMENT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"


HEADER = b'{"format":"lizenzserver audit export","version":1}\n'
"""The first line."""

_encode = msgspec.json.Encoder().encode


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event, its columns as they are stored, `state` in base64; or a checkpoint."""

    position: int = 0
    originator_id: UUID | None = None
    originator_version: int = 0
    topic: str = ""
    state: bytes | None = None
    checkpoint: str | None = None

    def spelled(self) -> bytes:
        """Return the line, its end included."""
        return _encode(self) + b"\n"

    def row(self) -> StoredRow:
        """Return the event."""
        assert self.state is not None
        id = self.originator_id or UUID(int=0)
        return StoredRow(self.position, id, self.originator_version, self.topic, self.state)


def write_export(database: Database, path: Path) -> int:
    """Write the file, complete or not at all; return how many events. Raises Failure, OSError and psycopg's errors."""
    with database.connect("lizenzserver-export", statement_timeout="0") as connection, connection.transaction():
        connection.execute(_ONE_MOMENT)
        total: Any = connection.execute(_COUNT).fetchone()
        note: Any = connection.execute(_NOTE).fetchone()
        with (
            draft_of(path) as draft,
            draft.open("wb", buffering=_BYTES_A_WRITE) as file,
            progress("Exporting", total["events"]) as advance,
            connection.cursor("events", row_factory=tuple_row) as cursor,
        ):
            file.write(HEADER)
            if note is not None:
                file.write(Line(checkpoint=note["note"]).spelled())
            cursor.itersize = _ROWS
            cursor.execute(_EVENTS, binary=True)
            for row in cursor:
                file.write(Line(*row).spelled())
                advance(1)
    return int(total["events"])
