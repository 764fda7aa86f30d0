"""Where a device stands with a licence: all that a validation reads, in one row."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec


class Standing(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A licence's terms and this device's activation, as of log position `position`.

    `activation_id` is None where the device holds no seat. `read_at` is monotonic seconds of this process.
    """

    license_id: UUID
    subject_id: UUID
    product: str | None
    edition: str | None
    max_devices: int
    current_devices: int
    features: tuple[str, ...]
    is_active: bool
    epoch: int
    expires_at: datetime | None
    activation_id: UUID | None
    os_info_sealed: bytes | None
    wrapped_key: bytes | None
    position: int
    read_at: float

    @property
    def device_is_active(self) -> bool:
        """Tell whether the device holds a seat."""
        return self.activation_id is not None

    @property
    def limits(self) -> dict[str, int]:
        """Seats allowed and in use."""
        return {"max_devices": self.max_devices, "current_devices": self.current_devices}


_COLUMNS = """
    SELECT l.license_id, l.subject_id, l.product, l.edition, l.max_devices, l.current_devices, l.features, l.is_active,
        l.epoch, l.expires_at, d.activation_id, d.os_info_sealed,
        s.wrapped_key, (SELECT coalesce(max(notification_id), 0) FROM licensing_events) AS position
    FROM licenses l
    JOIN data_subjects s USING (subject_id)
    LEFT JOIN devices d ON d.license_id = l.license_id AND d.device_digest = %s AND d.is_active
"""

_BY_KEY = _COLUMNS + "WHERE l.key_digest = %s"
_BY_ID = _COLUMNS + "WHERE l.license_id = %s"


@lru_cache(4096)
def _shared(value: Any) -> Any:
    """Return the first of all equal values."""
    return value


async def by_key(connection: Any, key_digest: bytes, device_digest: bytes, read_at: float) -> Standing | None:
    """Return where the device stands with the licence of this key, or None where there is no such licence."""
    return await _read(connection, _BY_KEY, device_digest, key_digest, read_at)


async def by_id(connection: Any, license_id: UUID, device_digest: bytes, read_at: float) -> Standing | None:
    """Return where the device stands with this licence, or None where there is none."""
    return await _read(connection, _BY_ID, device_digest, license_id, read_at)


async def _read(connection: Any, query: str, device: bytes, license: object, read_at: float) -> Standing | None:
    cursor = await connection.execute(query, (device, license))
    row = await cursor.fetchone()
    if row is None:
        return None
    # Many licences have the same: a hundred thousand standings in memory need not each have their own.
    row["features"] = _shared(tuple(row["features"]))
    row["product"], row["edition"] = _shared(row["product"]), _shared(row["edition"])
    return Standing(**row, read_at=read_at)
