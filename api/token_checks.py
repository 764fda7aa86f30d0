"""What a token rests on: its activation must not have ended, nor its licence been revoked since."""

from __future__ import annotations

from domain.errors import InvalidToken
from infra.tokens import Claims
from projections.standing import Standing


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
