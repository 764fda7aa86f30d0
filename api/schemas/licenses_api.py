"""Bodies and query parameters of the second dialect."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from api.schemas.admin import Email, MaxDevices
from api.schemas.common import Features, Identifier, Name, Timestamp
from api.schemas.license import LicenseKey

KeyHash = Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}$", description="64 hexadecimal digits, a SHA-256")]
AnyEmail = Annotated[str, Meta(min_length=1, max_length=320)]
Required = Annotated[Name, Meta(min_length=1)]


class Activate(msgspec.Struct, kw_only=True):
    """Asks for a signed, short-lived licence token for a device."""

    email: AnyEmail
    license_key: LicenseKey
    device_hash: Identifier
    device_name: Required


class Activated(msgspec.Struct, kw_only=True):
    """The token: `sig` is base64 Ed25519 over the RFC 8785 form of all other fields."""

    license_key_hash: str
    email: str
    product: str | None
    edition: str | None
    features: tuple[str, ...]
    device_hash: str
    device_name: str
    activations: int
    max_activations: int
    issued_at: Timestamp
    expires_at: Timestamp
    kid: str
    sig: str


class Deactivate(msgspec.Struct, kw_only=True):
    """Gives up a seat. `license_key_hash`: SHA-256 hex of the key, upper case, no blanks."""

    license_key_hash: KeyHash
    device_hash: Identifier


class Deactivated(msgspec.Struct, kw_only=True):
    """The seat is free."""

    license_key_hash: str
    device_hash: str
    activations: int
    max_activations: int


class PublicKeyEntry(msgspec.Struct, kw_only=True):
    """A public key whose signatures are believed."""

    kid: str
    public_key: str
    pem: str


class PublicKey(msgspec.Struct, kw_only=True):
    """The key that signs now (base64 of its 32 bytes), and all that are still believed."""

    alg: str
    kid: str
    public_key: str
    pem: str
    keys: list[PublicKeyEntry]


class CreateLicense(msgspec.Struct, kw_only=True):
    """A licence to issue; it is perpetual."""

    email: Email
    product: Required
    edition: Required
    max_activations: MaxDevices
    features: Features = msgspec.field(default_factory=list)


class LicenseDevice(msgspec.Struct, kw_only=True):
    """An active device."""

    device_hash: str
    device_name: str | None
    activated_at: Timestamp


class LicenseItem(msgspec.Struct, kw_only=True):
    """A licence with its active devices."""

    license_id: UUID
    license_key: str
    license_key_hash: str
    email: str | None
    product: str | None
    edition: str | None
    features: tuple[str, ...]
    enabled: bool
    activations: int
    max_activations: int
    created_at: Timestamp
    expires_at: Timestamp | None
    devices: list[LicenseDevice]


class LicenseItems(msgspec.Struct, kw_only=True):
    """A page of licences, newest first."""

    items: list[LicenseItem]
    total: int
    page: int
    per_page: int


class ListLicenses(msgspec.Struct, kw_only=True):
    """Filters of the list."""

    email: AnyEmail | None = None
    product: Name | None = None
    edition: Name | None = None
    enabled: bool | None = None
    page: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    per_page: Annotated[int, Meta(ge=1, le=100)] = 50


class Enable(msgspec.Struct, kw_only=True):
    """Enables or disables a licence; key and e-mail must match."""

    license_key: LicenseKey
    enabled: bool
    email: AnyEmail


class DeactivateDevice(msgspec.Struct, kw_only=True):
    """Takes a device's seat back; key and e-mail must match."""

    license_key: LicenseKey
    device_hash: Identifier
    email: AnyEmail
