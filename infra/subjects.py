"""Data subjects: whose key seals what. Found by a keyed hash of the customer id, else of the e-mail."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, Literal
from uuid import UUID

from infra.vault import SealBroken, UnknownSubject, Vault

_CREATE = """
    INSERT INTO data_subjects (subject_id, lookup_hash, wrapped_key)
    SELECT * FROM unnest(%s::uuid[], %s::bytea[], %s::bytea[])
    ON CONFLICT (lookup_hash) DO NOTHING
"""

_MAKE = "INSERT INTO data_subjects (subject_id, wrapped_key) VALUES (%s, %s)"

_KEYS = "SELECT subject_id, wrapped_key FROM data_subjects WHERE subject_id = ANY(%s) AND wrapped_key IS NOT NULL"

_FIND = "SELECT subject_id, lookup_hash, wrapped_key FROM data_subjects WHERE lookup_hash = ANY(%s)"


KeyState = Literal["there", "gone", "damaged"]
"""What became of a data key. One that is gone was destroyed: its subject was erased."""


class Subjects:
    """Finds or makes data subjects, and keeps their keys in the vault's memory."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._days: dict[date, UUID] = {}

    def lookup_hash(self, customer_id: str | None, email: str | None) -> bytes:
        """Return the hash by which a customer is found. One of both must be given."""
        if customer_id is not None:
            return self._vault.lookup_hash("customer", customer_id)
        assert email is not None
        return self._vault.lookup_hash("email", email)

    async def ensure(self, connection: Any, hashes: Sequence[bytes]) -> dict[bytes, UUID]:
        """Return the subject for each lookup hash, making those that are missing; all keys are in memory then."""
        found = await self._find(connection, hashes)
        missing = sorted(set(hashes) - set(found))
        if missing:
            made = [self._vault.new_subject() for _ in missing]
            await connection.execute(_CREATE, ([m[0] for m in made], missing, [m[1] for m in made]))
            # Another process may have been first for some of them.
            found.update(await self._find(connection, missing))
        return found

    async def make(self, connection: Any) -> UUID:
        """Make a subject that nothing leads to, for what is kept beside a customer's data; its key is in memory."""
        subject_id, wrapped = self._vault.new_subject()
        await connection.execute(_MAKE, (subject_id, wrapped))
        return subject_id

    async def find(self, connection: Any, lookup_hash: bytes) -> UUID | None:
        """Return the subject with this lookup hash, or None."""
        return (await self._find(connection, [lookup_hash])).get(lookup_hash)

    async def of_day(self, connection: Any, day: date) -> UUID:
        """Return the subject that seals addresses of unknown keys on this day."""
        if day not in self._days or not self._vault.knows(self._days[day]):
            lookup = self._vault.lookup_hash("address", day.isoformat())
            self._days = {day: (await self.ensure(connection, [lookup]))[lookup]}
        return self._days[day]

    async def key_of(self, connection: Any, subject_id: UUID) -> KeyState:
        """Tell what became of a subject's data key by the database's word, and not only by what is in memory.

        Where it is there, it is in memory then; where it was destroyed, it is not any more.
        """
        row = await (await connection.execute(_KEYS, ([subject_id],))).fetchone()
        if row is None:
            self._vault.forget(subject_id)
            return "gone"
        return "there" if self._vault.take(subject_id, row["wrapped_key"]) else "damaged"

    async def _find(self, connection: Any, hashes: Sequence[bytes]) -> dict[bytes, UUID]:
        cursor = await connection.execute(_FIND, (list(hashes),))
        found: dict[bytes, UUID] = {}
        for row in await cursor.fetchall():
            self._vault.take(row["subject_id"], row["wrapped_key"])
            found[bytes(row["lookup_hash"])] = row["subject_id"]
        return found


class SealedEmails:
    """Opens sealed e-mails for the views, and hashes them. `connect` gives a synchronous connection.

    `prepare` comes first: a subject whose key it did not find was erased.
    """

    def __init__(self, vault: Vault, connect: Any) -> None:
        self._vault = vault
        self._connect = connect

    def prepare(self, subject_ids: set[UUID]) -> None:
        """Read the keys of data subjects that are not in memory, all in one query."""
        unknown = [subject_id for subject_id in subject_ids if not self._vault.knows(subject_id)]
        if unknown:
            with self._connect() as connection:
                for row in connection.execute(_KEYS, (unknown,)).fetchall():
                    self._vault.take(row["subject_id"], row["wrapped_key"])

    def email_hash(self, subject_id: UUID | None, email_sealed: bytes) -> bytes | None:
        """Return the e-mail's lookup hash; None for no e-mail, or where its subject was erased."""
        if subject_id is None or not self._vault.knows(subject_id):
            return None
        try:
            email = self._vault.open(subject_id, email_sealed)
        except (UnknownSubject, SealBroken):
            return None
        return None if email is None else self._vault.lookup_hash("email", email)
