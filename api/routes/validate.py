"""`validate`: may this device run? The hot path."""

from __future__ import annotations

from typing import Any

import msgspec

from api.call import Call
from api.endpoint import Auth, Endpoint
from api.errors import services_body, status_of
from api.responses import Answer, answer
from api.schemas.license import Limits, ValidAnswer, ValidateRequest
from api.standings import Claim, count_miss, known_line, noted, products_named, read_by_key, unknown_line
from domain.errors import (
    DeviceLimitExceeded,
    DeviceNotActivated,
    LicenseExpired,
    LicenseInactive,
    LicenseNotFound,
    ProductMismatch,
    Refusal,
    ServiceUnavailable,
)
from domain.identifiers import license_key_digest
from domain.validation import refusal
from infra.signatures import sign_answer
from projections.standing import Standing

CACHE_SECONDS = 300
"""How long a program may go by an answer; less where the licence ends sooner."""

MAX_DECISIONS = 5
"""How often a request decides again because the licence keeps changing under it."""


async def validate(call: Call) -> Answer:
    """Decide, note the use, and answer only once what the decision rests on is known to be current."""
    body: ValidateRequest = call.body
    digest = license_key_digest(body.license_key)
    for _ in range(MAX_DECISIONS):
        key, standing = await read_by_key(call, digest, body.hardware_id)
        if standing is None:
            return await _unknown(call, digest, body)
        claim = Claim(standing.device_is_active, products_named(call, body.product))
        refused = refusal(standing, claim, call.now)
        line = known_line(
            call,
            standing,
            "license.validation.failed" if refused else "license.validated",
            "validate",
            body.hardware_id,
            reason=refused.code if refused else None,
            app_version=body.app_version,
            client_time=body.client_time,
        )
        if await noted(call, key, standing, line):
            return _refused(call, refused, body.nonce) if refused else _valid(call, standing, body.nonce)
    raise ServiceUnavailable


async def _unknown(call: Call, digest: bytes, body: ValidateRequest) -> Answer:
    missing = count_miss(call)
    line = await unknown_line(call, digest, "validate", body.hardware_id)
    await noted(call, (digest, b""), None, line)
    return _refused(call, missing, body.nonce)


def _valid(call: Call, standing: Standing, nonce: str | None) -> Answer:
    seconds = CACHE_SECONDS
    if standing.expires_at is not None:
        seconds = min(seconds, max(0, int((standing.expires_at - call.now).total_seconds())))
    headers = {"Cache-Control": f"private, max-age={seconds}"}
    valid = ValidAnswer(
        license_id=standing.license_id,
        expires_at=standing.expires_at,
        features=standing.features,
        limits=Limits(max_devices=standing.max_devices, current_devices=standing.current_devices),
        product=standing.product,
        edition=standing.edition,
        validated_at=call.now,
    )
    if nonce is None:
        return answer(200, valid, headers)
    return answer(200, _signed(call, msgspec.to_builtins(valid), nonce), headers)


def _refused(call: Call, refused: Refusal, nonce: str | None) -> Answer:
    body = {"valid": False, **services_body(refused)}
    if nonce is not None:
        body = _signed(call, msgspec.to_builtins(body), nonce)
    return answer(status_of(call.endpoint, type(refused)), body)


def _signed(call: Call, body: dict[str, Any], nonce: str) -> dict[str, Any]:
    return sign_answer(call.services.keyring, {**body, "nonce": nonce}, "signature")


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/v1/license/validate",
        handler=validate,
        summary="Validate a licence for a device",
        auth=Auth.API_KEY,
        body=ValidateRequest,
        answers={200: ValidAnswer},
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
        tag="license",
    ),
)
