"""What events and usage rows say about a request's address, place and operating system, sealed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import Any
from uuid import UUID

from infra.places import Place
from infra.vault import SealBroken, Vault

MAX_DETAILS = 100_000
"""Sealed details that are remembered: about 300 bytes each."""


class UsageDetails:
    """Seals addresses, places and operating systems; equal ones of one data subject are sealed once."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._sealed: OrderedDict[tuple[UUID, str, bytes | None], bytes] = OrderedDict()
        self._addresses: OrderedDict[tuple[UUID, str], bytes] = OrderedDict()

    def forget(self, subject_ids: Collection[UUID]) -> None:
        """Forget what was sealed for subjects that were erased: the addresses are in memory as they are."""
        gone = set(subject_ids)
        for details in [key for key in self._sealed if key[0] in gone]:
            del self._sealed[details]
        for address in [key for key in self._addresses if key[0] in gone]:
            del self._addresses[address]

    def seal_address(self, subject_id: UUID, address: str) -> bytes:
        """Return the sealed address, for an event. The subject's key must be in memory."""
        key = (subject_id, address)
        sealed = self._addresses.get(key)
        if sealed is None:
            sealed = self._addresses[key] = self._vault.seal(subject_id, address)
            if len(self._addresses) > MAX_DETAILS:
                self._addresses.popitem(last=False)
        return sealed

    def seal(
        self, subject_id: UUID, address: str, place: Place | None = None, os_info_sealed: bytes | None = None
    ) -> bytes:
        """Return the sealed details. The subject's key must be in memory. `place` follows from the address."""
        key = (subject_id, address, os_info_sealed)
        sealed = self._sealed.get(key)
        if sealed is None:
            details: dict[str, Any] = {"address": address}
            if place is not None:
                found = {"city": place.city, "latitude": place.latitude, "longitude": place.longitude}
                details |= {name: value for name, value in found.items() if value is not None}
            os_info = self._opened(subject_id, os_info_sealed) if os_info_sealed else None
            if os_info:
                details["os"], details["os_version"] = os_info.get("name"), os_info.get("version")
            sealed = self._sealed[key] = self._vault.seal(subject_id, details)
            if len(self._sealed) > MAX_DETAILS:
                self._sealed.popitem(last=False)
        return sealed

    def _opened(self, subject_id: UUID, os_info_sealed: bytes) -> Any:
        try:
            return self._vault.open(subject_id, os_info_sealed)
        except SealBroken:
            # Whoever uses a licence must not be turned away because of one damaged field.
            return None
