"""The register of erasures, outside the database: what a restored backup brings back is erased again by it.

A file of JSON lines, one a data subject, that is only ever added to. A line is on the disk before the erasure is
ordered. It holds ids, times and who ordered it, and nothing of the person.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec

from infra.durable_files import sync_folder

log = logging.getLogger(__name__)

FILE = "erasures.jsonl"
"""Its name in the data folder."""


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """A line: which data subject was erased, when that was ordered, and by whom, as an event's cause says it."""

    subject_id: UUID
    ordered_at: datetime
    ordered_by: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Erasure).decode
_SUBJECT = re.compile(rb'"subject_id":"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"')


class ErasureRegister:
    """The file at `path`. Any number of processes may read it and add to it at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, erasures: Iterable[Erasure]) -> None:
        """Add lines, and return once they are on the disk. Raises OSError: nothing may be erased then."""
        lines = b"".join(_encode(erasure) + b"\n" for erasure in erasures)
        is_new = not self.path.exists()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked() as descriptor:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                # Whoever wrote last was killed within a line.
                lines = b"\n" + lines
            while lines:
                lines = lines[os.write(descriptor, lines) :]
            os.fsync(descriptor)
        if is_new:
            sync_folder(self.path.parent)

    def read(self) -> list[Erasure]:
        """Return all lines, each subject's first one only; none where there is no file. Raises OSError.

        A line that can't be read is logged each time: either its writer was killed, or the file is damaged. Whom it
        names is erased all the same.
        """
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        found: dict[UUID, Erasure] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                erasure: Erasure | None = _decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                log.warning("line %d of the register of erasures (%s) can't be read", number, self.path)
                erasure = _salvaged(line)
            if erasure is not None:
                found.setdefault(erasure.subject_id, erasure)
        return list(found.values())

    @contextmanager
    def _locked(self) -> Iterator[int]:
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def _salvaged(line: bytes) -> Erasure | None:
    """Return the erasure of a line that can't be read, where it still says whose: it was ordered, whenever and by whom.

    Nobody else is erased by that: of an id that is damaged too, nobody is the subject.
    """
    named = _SUBJECT.search(line)
    if named is None:
        return None
    return Erasure(subject_id=UUID(named[1].decode()), ordered_at=datetime.now(UTC), ordered_by="unknown")
