"""`offline-token` and `validate-offline`: running without a network for some hours."""

from __future__ import annotations

from datetime import timedelta

from api.call import Call
from api.endpoint import Auth, Endpoint
from api.responses import Answer, answer
from api.schemas.license import OfflineAnswer, OfflineTokenAnswer, OfflineTokenRequest, ValidateOfflineRequest
from api.standings import read_afresh
from api.token_checks import is_live, require_live
from domain.errors import InvalidToken, LicenseExpired
from domain.validation import has_expired
from infra.tokens import TokenKind


async def offline_token(call: Call) -> Answer:
    """Issue a token that lasts as asked, but never past the licence's own end."""
    body: OfflineTokenRequest = call.body
    claims = call.credential.claims
    assert claims is not None
    standing = require_live(await read_afresh(call, claims.license_id, claims.hardware_id), claims)
    if has_expired(standing, call.now):
        raise LicenseExpired
    lifetime = timedelta(hours=body.duration_hours)
    if standing.expires_at is not None:
        lifetime = min(lifetime, standing.expires_at - call.now)
    token, issued = call.services.tokens.issue(
        TokenKind.OFFLINE,
        license_id=claims.license_id,
        hardware_id=claims.hardware_id,
        activation_id=claims.activation_id,
        epoch=standing.epoch,
        now=call.now,
        lifetime=lifetime,
        features=standing.features,
        product=standing.product,
    )
    return answer(200, OfflineTokenAnswer(token=token, expires_at=issued.expires_at))


async def validate_offline(call: Call) -> Answer:
    """Say whether an offline token is genuine and of now, and whether it has been revoked since."""
    body: ValidateOfflineRequest = call.body
    try:
        claims = call.services.tokens.verify(body.token, TokenKind.OFFLINE, call.now)
    except InvalidToken:
        await call.count_by_address()
        raise
    await call.count_by_token(claims)
    if body.hardware_id is not None and body.hardware_id != claims.hardware_id:
        raise InvalidToken("The token is for another device", reason="other_device")
    revoked = not is_live(await read_afresh(call, claims.license_id, claims.hardware_id), claims)
    return answer(
        200,
        OfflineAnswer(
            valid=not revoked,
            license_id=claims.license_id,
            hardware_id=claims.hardware_id,
            features=claims.features,
            expires_at=claims.expires_at,
            revoked=revoked,
        ),
    )


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/v1/license/offline-token",
        handler=offline_token,
        summary="Create an offline token",
        auth=Auth.BEARER,
        body=OfflineTokenRequest,
        body_required=False,
        answers={200: OfflineTokenAnswer},
        refusals=(LicenseExpired,),
        tag="license",
    ),
    Endpoint(
        method="POST",
        path="/api/v1/license/validate-offline",
        handler=validate_offline,
        summary="Validate an offline token",
        auth=Auth.NONE,
        body=ValidateOfflineRequest,
        answers={200: OfflineAnswer},
        refusals=(InvalidToken,),
        counts_requests=False,
        tag="license",
    ),
)
