"""Which licence a key names. This never changes, so it is remembered for good."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple
from uuid import UUID

MAX_KEYS = 200_000


class KeyedLicense(NamedTuple):
    """A licence and its data subject."""

    license_id: UUID
    subject_id: UUID


_FIND = """
    SELECT l.license_id, l.subject_id, s.wrapped_key
    FROM licenses l JOIN data_subjects s USING (subject_id) WHERE l.key_digest = %s
"""


class LicenseKeys:
    """Licences by the digest of their keys, the most recently used in memory."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, KeyedLicense] = OrderedDict()

    def remembered(self, key_digest: bytes) -> KeyedLicense | None:
        """Return the licence from memory."""
        return self._known.get(key_digest)

    async def find(self, connection: Any, key_digest: bytes) -> tuple[KeyedLicense, bytes | None] | None:
        """Return the licence and its subject's wrapped data key from the database; None where the key is nobody's."""
        cursor = await connection.execute(_FIND, (key_digest,))
        row = await cursor.fetchone()
        if row is None:
            return None
        found = self._known[key_digest] = KeyedLicense(row["license_id"], row["subject_id"])
        if len(self._known) > MAX_KEYS:
            self._known.popitem(last=False)
        return found, row["wrapped_key"]
