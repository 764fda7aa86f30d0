"""A licence's devices."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec


class DeviceRow(msgspec.Struct, frozen=True, kw_only=True):
    """A device that holds or held a seat; name and OS are still sealed. `last_seen_at` follows the usage log."""

    hardware_id: str
    activation_id: UUID
    is_active: bool
    activated_at: datetime
    deactivated_at: datetime | None
    device_name_sealed: bytes | None
    os_info_sealed: bytes | None
    last_seen_at: datetime | None = None


OF_LICENSE = """
    SELECT hardware_id, activation_id, is_active, activated_at, deactivated_at, device_name_sealed, os_info_sealed
    FROM devices WHERE license_id = %s ORDER BY activated_at, hardware_id
"""

_ACTIVE_OF = """
    SELECT license_id, hardware_id, activation_id, is_active, activated_at, deactivated_at, device_name_sealed,
        os_info_sealed
    FROM devices WHERE license_id = ANY(%s) AND is_active ORDER BY activated_at, hardware_id
"""

# What the projection has not come to yet is read from the log, so that a device that has just been heard of shows.
_LAST_SEEN = """
    SELECT hardware_id, max(seen_at) AS seen_at FROM (
        SELECT hardware_id, last_seen_at AS seen_at FROM device_sightings WHERE license_id = %(license_id)s
        UNION ALL
        SELECT hardware_id, occurred_at FROM usage
        WHERE license_id = %(license_id)s AND type <> 'license.validation.failed'
            AND id > coalesce((SELECT usage_position FROM consumers WHERE consumer = 'devices-seen'), 0)
    ) AS seen GROUP BY hardware_id
"""


async def of_license(connection: Any, license_id: UUID) -> list[DeviceRow]:
    """Return all devices of a licence, the longest active first, with when they were last seen."""
    cursor = await connection.execute(_LAST_SEEN, {"license_id": license_id})
    seen = {row["hardware_id"]: row["seen_at"] for row in await cursor.fetchall()}
    cursor = await connection.execute(OF_LICENSE, (license_id,))
    return [DeviceRow(**row, last_seen_at=seen.get(row["hardware_id"])) for row in await cursor.fetchall()]


async def active_of(connection: Any, license_ids: list[UUID]) -> dict[UUID, list[DeviceRow]]:
    """Return the active devices of some licences, the longest active first; licences without any are left out."""
    cursor = await connection.execute(_ACTIVE_OF, (license_ids,))
    found: dict[UUID, list[DeviceRow]] = {}
    for row in await cursor.fetchall():
        found.setdefault(row.pop("license_id"), []).append(DeviceRow(**row))
    return found
