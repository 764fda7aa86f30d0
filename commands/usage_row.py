"""One row of the usage log as COPY's text format."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

UsageType = Literal["license.validated", "license.validation.failed", "device.heartbeat"]
Operation = Literal["validate", "activate", "heartbeat"]

COLUMNS = (
    "occurred_at",
    "type",
    "operation",
    "license_id",
    "key_digest",
    "subject_id",
    "hardware_id",
    "api_key_id",
    "reason",
    "app_version",
    "client_time",
    "country",
    "network",
    "details_sealed",
    "session_sealed",
)

_NULL = "\\N"
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def usage_line(  # noqa: PLR0913 - one argument a column
    *,
    occurred_at: datetime,
    type: UsageType,
    operation: Operation,
    hardware_id: str | None,
    license_id: UUID | None = None,
    key_digest: bytes | None = None,
    subject_id: UUID | None = None,
    api_key_id: UUID | None = None,
    reason: str | None = None,
    app_version: str | None = None,
    client_time: datetime | None = None,
    country: str | None = None,
    network: bytes | None = None,
    details_sealed: bytes | None = None,
    session_sealed: bytes | None = None,
) -> bytes:
    """Encode a row. Texts that come from outside are escaped; no text may hold NUL."""
    return (
        f"{_plain(occurred_at)}\t{type}\t{operation}\t{_uuid(license_id)}\t{_bytes(key_digest)}\t"
        f"{_uuid(subject_id)}\t{_text(hardware_id)}\t{_uuid(api_key_id)}\t{reason or _NULL}\t{_text(app_version)}\t"
        f"{_plain(client_time) if client_time else _NULL}\t{country or _NULL}\t{_bytes(network)}\t"
        f"{_bytes(details_sealed)}\t{_bytes(session_sealed)}\n"
    ).encode()


_plain = msgspec.to_builtins
"""Writes times in RFC 3339 and UUIDs, several times as fast as their own methods, which are written in Python."""


def _uuid(value: UUID | None) -> str:
    return _NULL if value is None else _plain(value)


def _text(value: str | None) -> str:
    if value is None:
        return _NULL
    return value if value.isprintable() and "\\" not in value else value.translate(_ESCAPES)


def _bytes(value: bytes | None) -> str:
    # COPY's own escaping doubles the backslash of bytea's hex form.
    return _NULL if value is None else f"\\\\x{value.hex()}"
