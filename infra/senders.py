"""Who sent what the logs hold, as far as it is sealed: opened while the data subject's key is there."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any, NamedTuple
from uuid import UUID

from infra.network import CACHED, HASH_BYTES, IPV6_CUSTOMER_BITS, prefix
from infra.places import Places, rounded
from infra.vault import SealBroken, UnknownSubject, Vault

_KEYS = "SELECT subject_id, wrapped_key FROM data_subjects WHERE subject_id = ANY(%s) AND wrapped_key IS NOT NULL"


class Sender(NamedTuple):
    """What is known of a sender; None where it is not, or where its data subject was erased.

    `address_hash` is 16 bytes, keyed: of the address, or of all that one customer has of IPv6. `family` is 4 or 6, 0
    where the address is not known. `place` is latitude and longitude by GEO_DATABASE, to half a degree. `os` is the
    name and version of the operating system.
    """

    address: str | None = None
    address_hash: bytes | None = None
    family: int = 0
    place: tuple[float, float] | None = None
    os: str | None = None


NOBODY = Sender()

_REMEMBERED = 1 << 15
"""Senders of usage rows that are remembered: what a device sends is mostly sealed once, and opened once then."""


class Senders:
    """Opens what is sealed about senders. The subjects' keys must have been remembered; `forgotten` tells which."""

    def __init__(self, vault: Vault, places: Places | None = None) -> None:
        self._vault = vault
        self._places = places
        self._describe = lru_cache(CACHED)(self._described)
        self._open_details = lru_cache(_REMEMBERED)(self._opened_details)

    def remember(self, connection: Any, subject_ids: Iterable[UUID | None]) -> None:
        """Read the keys of data subjects that are not in memory, by a synchronous connection that gives dicts."""
        if missing := self.forgotten(subject_ids):
            self.keep(connection.execute(_KEYS, (missing,)).fetchall())

    async def remember_async(self, connection: Any, subject_ids: Iterable[UUID | None]) -> None:
        """Do the same on an asynchronous connection."""
        if missing := self.forgotten(subject_ids):
            self.keep(await (await connection.execute(_KEYS, (missing,))).fetchall())

    def forgotten(self, subject_ids: Iterable[UUID | None]) -> list[UUID]:
        """Return those whose keys are not in memory."""
        return [found for found in set(subject_ids) if found is not None and not self._vault.knows(found)]

    def keep(self, rows: Iterable[dict[str, Any]]) -> None:
        """Take keys as they are stored. One that is damaged is logged, once; its subject is as one that was erased."""
        for row in rows:
            self._vault.take(row["subject_id"], row["wrapped_key"])

    def forget(self, subject_ids: Iterable[UUID]) -> None:
        """Drop the keys of subjects that were erased, for good, and with them all senders that were opened."""
        self._vault.destroy(subject_ids)
        self._open_details.cache_clear()
        self._describe.cache_clear()

    def forget_all(self) -> None:
        """Drop all keys, and all senders that were opened: another process works now, and hears of erasures."""
        self._vault.clear()
        self._open_details.cache_clear()
        self._describe.cache_clear()

    def of_details(self, subject_id: UUID | None, details_sealed: bytes | None) -> Sender:
        """Return who sent a row of the usage log."""
        if subject_id is None or details_sealed is None:
            return NOBODY
        try:
            return self._open_details(subject_id, details_sealed)
        except (UnknownSubject, SealBroken):
            # It was erased. What is left of the row is looked at all the same.
            return NOBODY

    def _opened_details(self, subject_id: UUID, details_sealed: bytes) -> Sender:
        """Open them. Whatever this raises is not remembered: the key may only have left memory for a while."""
        details = self._vault.open(subject_id, bytes(details_sealed))
        sender = self._of_address(details.get("address"))
        return sender._replace(os=_os(details.get("os"), details.get("os_version")))

    def of_event(self, subject_id: UUID | None, address_sealed: bytes | None, os_info_sealed: bytes | None) -> Sender:
        """Return who ordered what an event says, with the operating system that it tells."""
        sender = self._of_address(self._opened(subject_id, address_sealed))
        os_info = self._opened(subject_id, os_info_sealed)
        if not isinstance(os_info, dict):
            return sender
        return sender._replace(os=_os(os_info.get("name"), os_info.get("version")))

    def _opened(self, subject_id: UUID | None, blob: bytes | None) -> Any:
        if subject_id is None or blob is None:
            return None
        try:
            return self._vault.open(subject_id, bytes(blob))
        except (UnknownSubject, SealBroken):
            return None

    def _of_address(self, address: Any) -> Sender:
        return self._describe(address) if isinstance(address, str) else NOBODY

    def _described(self, address: str) -> Sender:
        try:
            parsed = ip_address(address)
        except ValueError:
            return NOBODY
        found = self._places.of(parsed) if self._places is not None and parsed.is_global else None
        place = None
        if found is not None and found.latitude is not None and found.longitude is not None:
            place = rounded(found.latitude, found.longitude)
        block = prefix(parsed, IPV6_CUSTOMER_BITS) if isinstance(parsed, IPv6Address) else address
        return Sender(
            address=address,
            address_hash=self._vault.lookup_hash("address", block)[:HASH_BYTES],
            family=parsed.version,
            place=place,
        )


def _os(name: Any, version: Any) -> str | None:
    words = [word for word in (name, version) if isinstance(word, str) and word]
    return " ".join(words) or None
