"""`heartbeat`: a running program says so."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from api.body import to_struct
from api.call import Call
from api.endpoint import Auth, Endpoint
from api.responses import Answer, answer
from api.schemas.common import Name, Timestamp
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
                limits=Limits(max_devices=standing.max_devices, current_devices=standing.current_devices),
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
    """Read the two fields of session data that have a meaning to us; what does not fit is the vendor's own."""
    try:
        fields = to_struct(session, _SessionFields)
    except Invalid:
        return None, None
    return fields.app_version, fields.client_time


class _SessionFields(msgspec.Struct, kw_only=True):
    app_version: Name | None = None
    client_time: Timestamp | None = None


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
