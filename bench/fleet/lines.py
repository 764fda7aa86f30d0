"""A line of `usage.jsonl`, and how the moments in it are written."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

ENCODER = msgspec.json.Encoder()


class Line(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """What the export shows of an event or a use. Fields with no default are always there."""

    time: datetime
    type: str
    license_id: str | None
    hardware_id: str | None
    ip: str | None
    country: str | None
    app_version: str | None
    os: str | None
    reason: str | None = None
    client_time: datetime | None = None
    key_hash: str | None = None
    from_hardware_id: str | None = None
    to_hardware_id: str | None = None
    max_devices: int | None = None
    floating: bool | None = None
    expires_at: datetime | msgspec.UnsetType | None = msgspec.UNSET


def moment(seconds: float) -> datetime:
    """Return a moment given in seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)


def moment_or_none(seconds: float | None) -> datetime | None:
    """Return a moment, or None where there is none."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
