"""V, the audit log verifies: the tree over the event log (RFC 6962), and checkpoints that were kept elsewhere.

None of the service's code makes a hash or reads a checkpoint here.
"""

from __future__ import annotations

import re
import struct
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from tests.support.seat_fold import Finding, Row

_NOTE = re.compile(r"^((\S+)\n(\d+)\n([A-Za-z0-9+/=]{44})\n)\n\u2014 \2 ([A-Za-z0-9+/=]+)\n", re.MULTILINE)
_KEY_HASH_BYTES = 4


class LogTree:
    """The root over the first events of the log, for any number of them."""

    def __init__(self) -> None:
        self._levels: list[list[bytes]] = [[]]

    def __len__(self) -> int:
        return len(self._levels[0])

    def add(self, row: Row) -> None:
        """Take in the next row of `licensing_events`: a leaf is all of its columns."""
        position, version, topic = row["notification_id"], row["originator_version"], row["topic"].encode()
        head = struct.pack(">Q16sQI", position, row["originator_id"].bytes, version, len(topic))
        whole = sha256(b"\0" + head + topic + bytes(row["state"])).digest()
        for level in self._levels:
            level.append(whole)
            if len(level) % 2:
                return
            whole = sha256(b"\1" + level[-2] + level[-1]).digest()
        self._levels.append([whole])

    def root(self, size: int) -> bytes:
        """Return the root over the first `size` events, at least one: of whole subtrees, the largest first."""
        parts, done = [], 0
        for height in reversed(range(len(self._levels))):
            if size >> height & 1:
                parts.append(self._levels[height][done >> height])
                done += 1 << height
        found = parts.pop()
        while parts:
            found = sha256(b"\1" + parts.pop() + found).digest()
        return found


class _Kept(NamedTuple):
    text: bytes
    size: int
    root: bytes
    signature: bytes


class Signed:
    """Checkpoints in the file that the notary sends them to, read on from call to call; `public` is its key."""

    def __init__(self, path: Path, public: bytes) -> None:
        self._path = path
        self._key = VerifyKey(public)
        self._at = 0
        self._ahead: list[_Kept] = []
        self.size = 0
        """How many events the newest one covers."""

    def check(self, tree: LogTree) -> list[Finding]:
        """Compare what is new with the log's tree. What covers more than was read of it waits for the next time."""
        found: list[Finding] = []
        ahead, self._ahead = [*self._ahead, *self._read()], []
        for kept in ahead:
            if kept.size > len(tree):
                self._ahead.append(kept)
            elif wrong := self._wrong(kept, tree):
                found.append(Finding("V", f"the checkpoint of {kept.size} events {wrong}"))
        return found

    def _wrong(self, kept: _Kept, tree: LogTree) -> str:
        try:
            self._key.verify(kept.text, kept.signature)
        except BadSignatureError:
            return "has a wrong signature"
        return "" if tree.root(kept.size) == kept.root else "has another root than the log"

    def _read(self) -> list[_Kept]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._at)
            text = file.read().decode()
        found = []
        for note in _NOTE.finditer(text):
            found.append(
                _Kept(note[1].encode(), int(note[3]), b64decode(note[4]), b64decode(note[5])[_KEY_HASH_BYTES:])
            )
            end = note.end()
        if found:
            self._at += len(text[:end].encode())
            self.size = max(self.size, found[-1].size)
        return found
