"""What a token rests on: its activation must not have ended, nor its licence been revoked since."""

from __future__ import annotations

from uuid import UUID

from api.call import Call
from api.credentials import identify
from api.late_checks import still_holds
from api.standings import read_afresh, read_by_id
from domain.errors import InvalidToken
from infra.tokens import Claims
from projections.standing import Standing


async def current_standing(call: Call, license_id: UUID | None, hardware_id: str) -> Standing | None:
    """Return the standing as of now, from memory where a round of the usage log finds it and the API key unchanged.

    What has changed, or could not be looked up in time, is read again, the API key too. None: there is no such licence.
    Raises Unauthorized, EndpointNotAllowed, and psycopg's errors where the database is away: a token outlives that.
    """
    services, api_key = call.services, call.credential.api_key
    assert api_key is not None
    key_check = (api_key.key_id, api_key.position)
    checks = [key_check]
    standing = (await read_by_id(call, license_id, hardware_id))[1] if license_id else None
    if standing is not None:
        checks.append((standing.license_id, standing.position))
    future, index = services.usage.append(tuple(checks), b"")
    stale = await future
    if stale is not None and index not in stale:
        return standing
    if stale is not None or not await still_holds(services, [key_check]):
        services.api_keys.forget(call.request.headers["X-API-Key"])
        call.credential = await identify(call.request, call.endpoint, services, call.now)
    return await read_afresh(call, license_id, hardware_id) if license_id else None


def is_live(standing: Standing | None, claims: Claims) -> bool:
    """Tell whether the activation that a token rests on is the device's present one, under the same epoch."""
    return (
        standing is not None
        and standing.is_active
        and standing.activation_id == claims.activation_id
        and standing.epoch == claims.epoch
    )


def require_live(standing: Standing | None, claims: Claims) -> Standing:
    """Return the standing. Raises InvalidToken where the token's ground is gone."""
    if standing is None or not is_live(standing, claims):
        raise InvalidToken(reason="ended")
    return standing
