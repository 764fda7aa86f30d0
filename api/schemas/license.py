"""Bodies of the license service."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from api.schemas.auth import TokenText
from api.schemas.common import Identifier, JsonObject16K, Name, Timestamp

LicenseKey = Annotated[str, Meta(min_length=1, max_length=256)]
Nonce = Annotated[str, Meta(min_length=1, max_length=128)]


class OsInfo(msgspec.Struct, kw_only=True):
    """The device's operating system, as the program sees it."""

    name: Name | None = None
    version: Name | None = None


class ValidateRequest(msgspec.Struct, kw_only=True):
    """Asks whether this device may run. A `nonce` asks for a signed answer."""

    license_key: LicenseKey
    hardware_id: Identifier
    app_version: Name | None = None
    product: Name | None = None
    nonce: Nonce | None = None
    client_time: Timestamp | None = None


class Limits(msgspec.Struct, kw_only=True):
    """Seats allowed and in use."""

    max_devices: int
    current_devices: int


class ValidAnswer(msgspec.Struct, kw_only=True):
    """The device may run. With a nonce, `signature` is Ed25519 (base64) over the RFC 8785 form of the rest."""

    valid: Literal[True] = True
    license_id: UUID
    expires_at: Timestamp | None
    features: tuple[str, ...]
    limits: Limits
    product: str | None
    edition: str | None
    validated_at: Timestamp
    nonce: str | UnsetType = UNSET
    kid: str | UnsetType = UNSET
    signature: str | UnsetType = UNSET


class ActivateRequest(msgspec.Struct, kw_only=True):
    """Asks for a seat."""

    license_key: LicenseKey
    hardware_id: Identifier
    device_name: Name | None = None
    os_info: JsonObject16K | None = None
    app_version: Name | None = None
    product: Name | None = None
    client_time: Timestamp | None = None


class ActivationAnswer(msgspec.Struct, kw_only=True):
    """The device has a seat."""

    license_id: UUID
    hardware_id: str
    activated_at: Timestamp
    features: tuple[str, ...]
    limits: Limits


class DeactivateRequest(msgspec.Struct, kw_only=True):
    """Gives up a seat, as an uninstaller does."""

    license_key: LicenseKey
    hardware_id: Identifier


class DeactivationAnswer(msgspec.Struct, kw_only=True):
    """The seat is free."""

    license_id: UUID
    hardware_id: str
    deactivated_at: Timestamp
    limits: Limits


class HeartbeatRequest(msgspec.Struct, kw_only=True):
    """Says that the program runs. `session_data` may hold `client_time` (RFC 3339) and `app_version`."""

    session_data: JsonObject16K = msgspec.field(default_factory=dict)


class HeartbeatLicense(msgspec.Struct, kw_only=True):
    """The licence's state, for the program to act on."""

    license_id: UUID
    is_active: bool
    expires_at: Timestamp | None
    features: tuple[str, ...]
    limits: Limits


class HeartbeatAnswer(msgspec.Struct, kw_only=True):
    """The heartbeat was noted."""

    server_time: Timestamp
    next_heartbeat_seconds: int
    license: HeartbeatLicense
    status: Literal["ok"] = "ok"


class OfflineTokenRequest(msgspec.Struct, kw_only=True):
    """Asks for a token that validates without a network for some hours."""

    duration_hours: Annotated[int, Meta(ge=1, le=720)] = 24


class OfflineTokenAnswer(msgspec.Struct, kw_only=True):
    """A token that the public keys alone verify."""

    token: str
    expires_at: Timestamp


class ValidateOfflineRequest(msgspec.Struct, kw_only=True):
    """Asks about an offline token; with `hardware_id`, whether it is this device's."""

    token: TokenText
    hardware_id: Identifier | None = None


class OfflineAnswer(msgspec.Struct, kw_only=True):
    """The token is genuine and of now. `revoked`: its activation or licence has been ended since."""

    valid: bool
    license_id: UUID
    hardware_id: str
    features: tuple[str, ...]
    expires_at: Timestamp
    revoked: bool
