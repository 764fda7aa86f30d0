"""Where a device stands with a licence: all that a validation reads, in one row."""

from __future__ import annotations

from collections.abc import Sequence
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


# The log's position is of the same snapshot as the rows. OFFSET 0 keeps a part by itself: each licence and each device
# is found by its index, also where the planner believes that the tables are nearly empty.
_STANDINGS = """
    SELECT asked.number, standing.*, (SELECT coalesce(max(notification_id), 0) FROM licensing_events) AS position
    FROM unnest({types}) WITH ORDINALITY AS asked (license, device_digest, number)
    CROSS JOIN LATERAL (
        SELECT l.license_id, l.subject_id, l.product, l.edition, l.max_devices, l.current_devices, l.features,
            l.is_active, l.epoch, l.expires_at, d.activation_id, d.os_info_sealed, s.wrapped_key
        FROM licenses l
        LEFT JOIN data_subjects s USING (subject_id)
        LEFT JOIN LATERAL (
            SELECT activation_id, os_info_sealed FROM devices
            WHERE license_id = l.license_id AND device_digest = asked.device_digest AND is_active OFFSET 0
        ) AS d ON true
        WHERE l.{column} = asked.license OFFSET 0
    ) AS standing
"""

_BY_KEY = _STANDINGS.format(types="%b::bytea[], %b::bytea[]", column="key_digest")
_BY_ID = _STANDINGS.format(types="%b::uuid[], %b::bytea[]", column="license_id")


@lru_cache(4096)
def _shared(value: Any) -> Any:
    """Return the first of all equal values."""
    return value


async def by_keys(connection: Any, asked: Sequence[tuple[bytes, bytes]], read_at: float) -> list[Standing | None]:
    """Return where devices stand, by the digests of licence key and device; None where there is no such licence."""
    return await _read(connection, _BY_KEY, asked, read_at)


async def by_ids(connection: Any, asked: Sequence[tuple[bytes, bytes]], read_at: float) -> list[Standing | None]:
    """Return where devices stand, by the bytes of licence ids and the devices' digests; None for no such licence."""
    return await _read(connection, _BY_ID, [(UUID(bytes=license), device) for license, device in asked], read_at)


async def _read(
    connection: Any, query: str, asked: Sequence[tuple[Any, bytes]], read_at: float
) -> list[Standing | None]:
    found: list[Standing | None] = [None] * len(asked)
    licenses, devices = zip(*asked, strict=True)
    cursor = await connection.execute(query, (list(licenses), list(devices)))
    for row in await cursor.fetchall():
        number = row.pop("number")
        # Many licences have the same: a hundred thousand standings in memory need not each have their own.
        row["features"] = _shared(tuple(row["features"]))
        row["product"], row["edition"] = _shared(row["product"]), _shared(row["edition"])
        found[number - 1] = Standing(**row, read_at=read_at)
    return found
