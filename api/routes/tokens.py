"""`token`, `refresh`, `verify` and the public keys."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from api.call import Call, as_uuid
from api.endpoint import Auth, Endpoint
from api.responses import Answer, answer
from api.schemas.auth import JwkSet, NoBody, RefreshRequest, TokenAnswer, TokenRequest, VerifyAnswer
from api.standings import Claim, products_named, read_afresh
from api.token_checks import current_standing, require_live
from domain.errors import (
    DeviceLimitExceeded,
    DeviceNotActivated,
    InvalidToken,
    LicenseExpired,
    LicenseInactive,
    LicenseNotFound,
    ProductMismatch,
)
from domain.validation import has_expired, refusal
from infra.tokens import Claims, TokenKind
from projections.standing import Standing

ACCESS_LIFE = timedelta(hours=1)
REFRESH_LIFE = timedelta(days=30)


async def create_token(call: Call) -> Answer:
    """Give tokens to an active device, and begin a family of refresh tokens."""
    body: TokenRequest = call.body
    standing = await current_standing(call, as_uuid(body.license_id), body.hardware_id)
    if standing is None:
        raise LicenseNotFound("License not found")
    claim = Claim(standing.device_is_active, products_named(call, None))
    refused = refusal(standing, claim, call.now)
    if refused is not None:
        raise refused
    tokens, _ = _issue(call, standing, body.hardware_id)
    return answer(200, tokens)


async def refresh_token(call: Call) -> Answer:
    """Trade a refresh token for new tokens. One used before revokes its whole family: somebody else has it."""
    body: RefreshRequest = call.body
    try:
        claims = call.services.tokens.verify(body.refresh_token, TokenKind.REFRESH, call.now)
    except InvalidToken:
        await call.count_by_address()
        raise
    await call.count_by_token(claims)
    standing = require_live(await read_afresh(call, claims.license_id, claims.hardware_id), claims)
    if has_expired(standing, call.now):
        raise LicenseExpired
    tokens, new = _issue(call, standing, claims.hardware_id, claims.family)
    if not await _rotate(call, claims, new):
        raise InvalidToken("The refresh token was used before; its family is revoked", reason="reused")
    return answer(200, tokens)


_ROTATE = """
    INSERT INTO refresh_families AS family (family_id, license_id, current_jti, expires_at)
    VALUES (%(family)s, %(license)s, CASE WHEN %(is_first)s THEN %(new)s::uuid END, %(expires_at)s)
    ON CONFLICT (family_id) DO UPDATE SET
        current_jti = CASE WHEN family.current_jti = %(used)s THEN %(new)s::uuid END,
        expires_at = excluded.expires_at
    RETURNING current_jti IS NOT NULL AS is_good
"""


async def _rotate(call: Call, used: Claims, new: Claims) -> bool:
    """Put the new token in the used one's place; where another is there already, revoke the family.

    A family without a row has never been refreshed, and its first token is good; so issuing one writes nothing.
    """
    values = {
        "family": used.family,
        "license": used.license_id,
        "is_first": used.is_first_of_family,
        "used": used.jti,
        "new": new.jti,
        "expires_at": new.expires_at,
    }
    async with call.services.pool.connection() as connection:
        cursor = await connection.execute(_ROTATE, values)
        row = await cursor.fetchone()
    return row is not None and bool(row["is_good"])


def _issue(call: Call, standing: Standing, hardware_id: str, family: UUID | None = None) -> tuple[TokenAnswer, Claims]:
    tokens = call.services.tokens
    assert standing.activation_id is not None
    access, _ = tokens.issue(
        TokenKind.ACCESS,
        license_id=standing.license_id,
        hardware_id=hardware_id,
        activation_id=standing.activation_id,
        epoch=standing.epoch,
        now=call.now,
        lifetime=ACCESS_LIFE,
    )
    refresh, claims = tokens.issue(
        TokenKind.REFRESH,
        license_id=standing.license_id,
        hardware_id=hardware_id,
        activation_id=standing.activation_id,
        epoch=standing.epoch,
        now=call.now,
        lifetime=REFRESH_LIFE,
        family=family,
    )
    expires_in = int(ACCESS_LIFE.total_seconds())
    return TokenAnswer(access_token=access, refresh_token=refresh, expires_in=expires_in), claims


async def verify_token(call: Call) -> Answer:
    """Say what a good access token stands for."""
    claims = call.credential.claims
    assert claims is not None
    require_live(await read_afresh(call, claims.license_id, claims.hardware_id), claims)
    good = VerifyAnswer(license_id=claims.license_id, hardware_id=claims.hardware_id, expires_at=claims.expires_at)
    return answer(200, good)


async def jwks(call: Call) -> Answer:
    """Give the public keys that tokens verify with."""
    keys = call.services.keyring.jwks(call.now)
    return answer(200, keys, {"Cache-Control": "public, max-age=300"})


JWKS = Endpoint(
    method="GET",
    path="/.well-known/jwks.json",
    handler=jwks,
    summary="Public keys of the tokens",
    auth=Auth.NONE,
    answers={200: JwkSet},
    tag="keys",
)

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/v1/auth/token",
        handler=create_token,
        summary="Create an access token",
        auth=Auth.API_KEY,
        body=TokenRequest,
        answers={200: TokenAnswer},
        refusals=(
            LicenseNotFound,
            ProductMismatch,
            LicenseInactive,
            LicenseExpired,
            DeviceNotActivated,
            DeviceLimitExceeded,
        ),
        statuses={DeviceLimitExceeded: 403},
        checks_changes=True,
        tag="auth",
    ),
    Endpoint(
        method="POST",
        path="/api/v1/auth/refresh",
        handler=refresh_token,
        summary="Refresh a token",
        auth=Auth.NONE,
        body=RefreshRequest,
        answers={200: TokenAnswer},
        refusals=(InvalidToken, LicenseExpired),
        counts_requests=False,
        tag="auth",
    ),
    Endpoint(
        method="POST",
        path="/api/v1/auth/verify",
        handler=verify_token,
        summary="Verify a token",
        auth=Auth.BEARER,
        body=NoBody,
        body_required=False,
        answers={200: VerifyAnswer},
        tag="auth",
    ),
)
