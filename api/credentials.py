"""Who is calling: each kind of credential, how it is checked, and which limits it carries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec
import psycopg
from aiohttp import web

from api.credential_store import MAX_KEYS
from api.endpoint import Auth
from api.late_checks import still_holds
from domain import api_key
from domain.errors import EndpointNotAllowed, Invalid, InvalidToken, Refusal, Unauthorized
from infra.api_secrets import equal
from infra.tokens import Claims, TokenKind
from projections.api_keys import ApiKeyView

if TYPE_CHECKING:
    from datetime import datetime

    from api.endpoint import Endpoint
    from api.services import Services

SINGLE_HEADERS = (
    "X-API-Key",
    "Authorization",
    "X-Admin-API-Key",
    "X-Admin-Secret",
    "X-Client-Token",
    "X-Admin-Token",
    "Idempotency-Key",
    "Content-Type",
    "Content-Length",
    "Content-Encoding",
    "Transfer-Encoding",
    "Host",
)
"""Headers that must not come twice: which of two counts is what smugglers bet on."""
_CODINGS = frozenset({"identity", "gzip", "deflate"})


class Credential(msgspec.Struct, frozen=True):
    """A caller. `actor` names it in history; exactly the credential's own kind of detail is set."""

    actor: str
    api_key: ApiKeyView | None = None
    claims: Claims | None = None
    bucket: str | None = None
    per_minute: int | None = None
    per_hour: int | None = None


ANONYMOUS = Credential("anonymous")


class InvalidClientOrAdminToken(Refusal):
    """The second dialect's 401: missing, wrong, both, or of the wrong kind for the path."""

    code = "UNAUTHORIZED"
    message = "invalid client/admin token"


def check_headers(request: web.Request) -> None:
    """Raise Invalid where a header that must be single came twice, or bodies are coded in ways that we don't read."""
    headers = request.headers
    if "Transfer-Encoding" in headers and headers["Transfer-Encoding"].lower() != "chunked":
        raise Invalid(**{"Transfer-Encoding": "must be chunked or none"})
    if "Content-Encoding" in headers and headers["Content-Encoding"].lower() not in _CODINGS:
        raise Invalid(**{"Content-Encoding": "must be gzip, deflate or none"})
    if len(headers) == len({name.lower() for name in headers}):
        # No header came twice, which saves the search for each of those that must not.
        return
    for name in SINGLE_HEADERS:
        if name in headers and len(headers.getall(name)) > 1:
            raise Invalid(**{name: "must not be sent twice"})


def identify(request: web.Request, endpoint: Endpoint, services: Services, now: datetime) -> Awaitable[Credential]:
    """Return who is calling. Raises Unauthorized, InvalidToken, EndpointNotAllowed, or the second dialect's 401."""
    return _CHECKS[endpoint.auth](request, endpoint, services, now)


async def _nobody(request: web.Request, endpoint: Endpoint, services: Services, now: datetime) -> Credential:
    del request, endpoint, services, now
    return ANONYMOUS


async def _by_api_key(request: web.Request, endpoint: Endpoint, services: Services, now: datetime) -> Credential:
    key = request.headers.get("X-API-Key")
    if not key:
        raise Unauthorized("An API key is needed in X-API-Key")
    monotonic = services.clock.monotonic()
    view = services.api_keys.remembered(key, monotonic, is_away=services.pulse.is_away)
    if view is None:
        view = await _read_api_key(key, services, monotonic)
    elif not endpoint.checks_changes and await _has_changed(services, view):
        # Another process may have revoked it a moment ago.
        view = await services.api_keys.read(key, monotonic)
    if view is None or api_key.has_ended(view.expires_at, view.revoked_at, now):
        raise Unauthorized("The API key is not valid")
    if not api_key.covers(view.allowed_endpoints, endpoint.path):
        raise EndpointNotAllowed
    return _of_api_key(view)


async def _read_api_key(key: str, services: Services, monotonic: float) -> ApiKeyView | None:
    try:
        return await services.api_keys.read(key, monotonic)
    except psycopg.OperationalError:
        # Perhaps this is how it was found out that the database is away.
        view = services.api_keys.remembered(key, monotonic, is_away=services.pulse.is_away)
        if view is None:
            raise
        return view


@lru_cache(MAX_KEYS)
def _of_api_key(view: ApiKeyView) -> Credential:
    """Return the credential that a key is, made once for each reading of it."""
    return Credential(
        f"api-key:{view.key_id}",
        api_key=view,
        bucket=f"key:{view.key_id}",
        per_minute=view.requests_per_minute,
        per_hour=view.requests_per_hour,
    )


async def _has_changed(services: Services, view: ApiKeyView) -> bool:
    is_current = await services.usage.is_current(view.key_id, view.position)
    if is_current is None:
        is_current = await still_holds(services, [(view.key_id, view.position)])
    return not is_current


_plain = msgspec.to_builtins
"""Writes UUIDs, three times as fast as they do themselves."""


def token_bucket(claims: Claims) -> str:
    """Return what a token's requests count against: its activation, so that many devices of a licence all have room."""
    return f"activation:{_plain(claims.license_id)}:{_plain(claims.activation_id)}"


async def _by_bearer(request: web.Request, endpoint: Endpoint, services: Services, now: datetime) -> Credential:
    del endpoint
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise InvalidToken("A token is needed in Authorization: Bearer")
    claims = services.tokens.verify(token.strip(), TokenKind.ACCESS, now)
    return Credential(
        f"token:{_plain(claims.jti)}",
        claims=claims,
        bucket=token_bucket(claims),
        per_minute=api_key.DEFAULT_PER_MINUTE,
        per_hour=api_key.DEFAULT_PER_HOUR,
    )


async def _by_admin_key(request: web.Request, endpoint: Endpoint, services: Services, now: datetime) -> Credential:
    del endpoint, now
    key = request.headers.get("X-Admin-API-Key")
    if not key:
        raise Unauthorized("An admin key is needed in X-Admin-API-Key")
    if equal(key, services.secrets.admin_api_key.reveal()):
        return Credential("admin:default")
    name = await services.admins.name_of(key)
    if name is None:
        raise Unauthorized("The admin key is not valid")
    return Credential(f"admin:{name}")


async def _by_admin_secret(request: web.Request, endpoint: Endpoint, services: Services, now: datetime) -> Credential:
    del endpoint, now
    secret = request.headers.get("X-Admin-Secret")
    if not secret or not equal(secret, services.secrets.admin_secret.reveal()):
        raise Unauthorized("The admin secret is needed in X-Admin-Secret")
    return Credential("admin:secret")


async def _by_client_token(request: web.Request, endpoint: Endpoint, services: Services, now: datetime) -> Credential:
    del endpoint, now
    return _of_tokens(request, services, client=True, admin=False)


async def _by_admin_token(request: web.Request, endpoint: Endpoint, services: Services, now: datetime) -> Credential:
    del endpoint, now
    return _of_tokens(request, services, client=False, admin=True)


async def _by_either_token(request: web.Request, endpoint: Endpoint, services: Services, now: datetime) -> Credential:
    del endpoint, now
    return _of_tokens(request, services, client=True, admin=True)


def _of_tokens(request: web.Request, services: Services, *, client: bool, admin: bool) -> Credential:
    client_token = request.headers.get("X-Client-Token")
    admin_token = request.headers.get("X-Admin-Token")
    # Both comparisons are made whatever comes, so that time tells nothing.
    is_client = equal(client_token or "", services.secrets.client_token.reveal())
    is_admin = equal(admin_token or "", services.secrets.admin_token.reveal())
    if client_token is not None and admin_token is not None:
        raise InvalidClientOrAdminToken
    if client and is_client:
        return Credential("client-token")
    if admin and is_admin:
        return Credential("admin:licenses-api")
    raise InvalidClientOrAdminToken


Check = Callable[[web.Request, "Endpoint", "Services", "datetime"], Awaitable[Credential]]

_CHECKS: dict[Auth, Check] = {
    Auth.NONE: _nobody,
    Auth.API_KEY: _by_api_key,
    Auth.BEARER: _by_bearer,
    Auth.ADMIN_KEY: _by_admin_key,
    Auth.ADMIN_SECRET: _by_admin_secret,
    Auth.CLIENT_TOKEN: _by_client_token,
    Auth.ADMIN_TOKEN: _by_admin_token,
    Auth.EITHER_TOKEN: _by_either_token,
}
