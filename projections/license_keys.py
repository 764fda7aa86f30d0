"""Which licence a key names. This never changes, so it is remembered for good."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

MAX_KEYS = 200_000


class KeyedLicense(NamedTuple):
    """A licence and its data subject."""

    license_id: UUID
    subject_id: UUID


FoundLicense = tuple[KeyedLicense, bytes | None]
"""A licence, and its data subject's wrapped data key."""

_FIND = """
    SELECT l.key_digest, l.license_id, l.subject_id, s.wrapped_key
    FROM licenses l LEFT JOIN data_subjects s USING (subject_id) WHERE l.key_digest = ANY(%b)
"""


class LicenseKeys:
    """Licences by the digest of their keys, the most recently used in memory."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, KeyedLicense] = OrderedDict()

    def remembered(self, key_digest: bytes) -> KeyedLicense | None:
        """Return the licence from memory."""
        return self._known.get(key_digest)

    async def find(self, connection: Any, key_digests: Sequence[bytes], _: float = 0) -> list[FoundLicense | None]:
        """Return each licence from the database, with its wrapped data key; None where a key is nobody's."""
        cursor = await connection.execute(_FIND, (list(key_digests),))
        found: dict[bytes, FoundLicense] = {}
        for row in await cursor.fetchall():
            digest = bytes(row["key_digest"])
            license = self._known[digest] = KeyedLicense(row["license_id"], row["subject_id"])
            found[digest] = license, row["wrapped_key"]
        while len(self._known) > MAX_KEYS:
            self._known.popitem(last=False)
        return [found.get(digest) for digest in key_digests]
