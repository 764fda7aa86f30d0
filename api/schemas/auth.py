"""Bodies of the auth service."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from api.schemas.common import Identifier, Name, Timestamp

RequestsLimit = Annotated[int, Meta(ge=1, le=1_000_000_000)]
EndpointPattern = Annotated[
    str, Meta(min_length=1, max_length=256, description="a path, or a glob such as /api/v1/license/*")
]
ClientName = Annotated[Name, Meta(min_length=1)]
LicenseId = Annotated[str, Meta(min_length=1, max_length=64, description="A UUID; any other text names no licence")]
TokenText = Annotated[str, Meta(min_length=1, max_length=16384)]


class TokenRequest(msgspec.Struct, kw_only=True):
    """Asks for tokens for an active device."""

    license_id: LicenseId
    hardware_id: Identifier


class RefreshRequest(msgspec.Struct, kw_only=True):
    """Trades a refresh token, which is used up by it."""

    refresh_token: TokenText


class NoBody(msgspec.Struct, kw_only=True):
    """Nothing is needed; an object may be sent."""


class TokenAnswer(msgspec.Struct, kw_only=True):
    """An access token, and the refresh token that gives the next one. `expires_in`: seconds."""

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a scheme's name
    expires_in: int = 3600


class VerifyAnswer(msgspec.Struct, kw_only=True):
    """What a good token stands for."""

    license_id: UUID
    hardware_id: str
    expires_at: Timestamp
    valid: Literal[True] = True


class ApiKeyRequest(msgspec.Struct, kw_only=True):
    """Asks for an API key. Limits left out are 60 a minute and 1,000 an hour; null is no limit."""

    client_name: ClientName
    allowed_endpoints: Annotated[list[EndpointPattern], Meta(max_length=100)] | UnsetType = UNSET
    requests_per_minute: RequestsLimit | UnsetType | None = UNSET
    requests_per_hour: RequestsLimit | UnsetType | None = UNSET
    product: Name | None = None
    expires_at: Timestamp | None = None


class ApiKeyInfo(msgspec.Struct, kw_only=True):
    """An API key without its secret."""

    key_id: UUID
    client_name: str
    allowed_endpoints: list[str]
    requests_per_minute: int | None
    requests_per_hour: int | None
    product: str | None
    created_at: Timestamp
    expires_at: Timestamp | None
    revoked_at: Timestamp | None


class NewApiKey(msgspec.Struct, kw_only=True):
    """A new API key; the key itself is shown this once."""

    api_key: str
    key_id: UUID
    client_name: str
    allowed_endpoints: list[str]
    requests_per_minute: int | None
    requests_per_hour: int | None
    product: str | None
    created_at: Timestamp
    expires_at: Timestamp | None


class ApiKeyList(msgspec.Struct, kw_only=True):
    """All API keys, revoked ones too, newest first."""

    api_keys: list[ApiKeyInfo]


class JwkSet(msgspec.Struct, kw_only=True):
    """Public keys (RFC 7517), the one that signs now first."""

    keys: list[dict[str, str]]
