"""`heartbeat`: a running program says so."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from api.call import Call
from api.endpoint import Auth, Endpoint
from api.responses import Answer, answer
from api.schemas.common import check_name, check_utc
from api.schemas.license import HeartbeatAnswer, HeartbeatLicense, HeartbeatRequest, Limits
from api.standings import known_line, noted, read_afresh, read_by_id
from api.token_checks import require_live
from domain.errors import Invalid, InvalidToken, LicenseExpired, ServiceUnavailable
from domain.validation import has_expired
from infra.tokens import Claims
from projections.standing import Standing

NEXT_HEARTBEAT_SECONDS = 300
MAX_DECISIONS = 5


async def heartbeat(call: Call) -> Answer:
    """Note a heartbeat; it never brings an ended activation back."""
    body: HeartbeatRequest = call.body
    claims = call.credential.claims
    assert claims is not None
    app_version, client_time = _session_fields(body.session_data)
    for _ in range(MAX_DECISIONS):
        key, found = await read_by_id(call, claims.license_id, claims.hardware_id)
        try:
            standing = _usable(call, claims, found)
        except (InvalidToken, LicenseExpired):
            # Nothing is noted of a refusal, so that nothing checks what was remembered: the licence may have been
            # extended, or the device activated anew, on another process.
            call.services.standings.drop(key)
            standing = _usable(call, claims, await read_afresh(call, claims.license_id, claims.hardware_id))
        vault = call.services.vault
        keep = bool(body.session_data) and vault.knows(standing.subject_id)
        line = known_line(
            call,
            standing,
            "device.heartbeat",
            "heartbeat",
            claims.hardware_id,
            app_version=app_version,
            client_time=client_time,
            session_sealed=vault.seal(standing.subject_id, body.session_data) if keep else None,
        )
        if await noted(call, key, standing, line):
            state = HeartbeatLicense(
                license_id=standing.license_id,
                is_active=standing.is_active,
                expires_at=standing.expires_at,
                features=standing.features,
                limits=Limits(**standing.limits),
            )
            return answer(
                200, HeartbeatAnswer(server_time=call.now, next_heartbeat_seconds=NEXT_HEARTBEAT_SECONDS, license=state)
            )
    raise ServiceUnavailable


def _usable(call: Call, claims: Claims, found: Standing | None) -> Standing:
    """Return the standing. Raises InvalidToken, LicenseExpired."""
    standing = require_live(found, claims)
    if has_expired(standing, call.now):
        raise LicenseExpired
    return standing


def _session_fields(session: dict[str, Any]) -> tuple[str | None, datetime | None]:
    """Read the two fields of session data that have a meaning; anything else is the vendor's own."""
    app_version, client_time = session.get("app_version"), session.get("client_time")
    if app_version is not None and not isinstance(app_version, str):
        raise Invalid(**{"session_data.app_version": "must be a string"})
    try:
        moment = msgspec.convert(client_time, datetime | None)
    except msgspec.ValidationError:
        raise Invalid(**{"session_data.client_time": "must be an RFC 3339 time"}) from None
    return (
        check_name(app_version, "session_data.app_version") if app_version is not None else None,
        check_utc(moment, "session_data.client_time") if moment is not None else None,
    )


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/v1/license/heartbeat",
        handler=heartbeat,
        summary="Record a heartbeat",
        auth=Auth.BEARER,
        body=HeartbeatRequest,
        body_required=False,
        answers={200: HeartbeatAnswer},
        refusals=(LicenseExpired,),
        tag="license",
    ),
)
