from __future__ import annotations

from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from domain import api_key
from domain.api_key import DEFAULT_ENDPOINTS, covers, has_ended
from domain.facts import ApiKeyCreated, ApiKeyRevoked
from tests.support.given import NOW, history, recorded

CREATED = ApiKeyCreated(
    key_digest=b"d", client_name="c", allowed_endpoints=(), requests_per_minute=1, requests_per_hour=None
)


def test_revoking_is_recorded_once() -> None:
    key_id = uuid4()
    key = api_key.evolve(None, recorded(key_id, 1, CREATED))
    (revoked,) = api_key.revoke(key)
    assert revoked == ApiKeyRevoked()
    key = api_key.evolve(key, recorded(key_id, 2, revoked))
    assert (key.id, key.version, key.is_revoked) == (key_id, 2, True)
    assert api_key.revoke(key) == ()


def test_a_log_out_of_order_is_not_believed() -> None:
    created, revoked = history(CREATED, ApiKeyRevoked())
    with pytest.raises(ValueError, match="out of order"):
        api_key.evolve(None, revoked)
    key = api_key.evolve(None, created)
    with pytest.raises(ValueError, match="out of order"):
        api_key.evolve(key, created)
    with pytest.raises(ValueError, match="out of order"):
        api_key.evolve(key, recorded(key.id, 3, ApiKeyRevoked()))


@pytest.mark.parametrize(
    "allowed, route, expected",
    [
        (DEFAULT_ENDPOINTS, "/api/v1/license/validate", True),
        (DEFAULT_ENDPOINTS, "/api/v1/auth/token", True),
        (DEFAULT_ENDPOINTS, "/api/v1/auth/api-key", False),
        (DEFAULT_ENDPOINTS, "/api/v1/analytics/usage", False),
        ((), "/api/v1/license/validate", False),
        (("/api/v1/license/validate",), "/api/v1/license/validate", True),
        (("/api/v1/license/validate",), "/api/v1/license/validate2", False),
        (("/api/v1/license/validate",), "/API/v1/license/validate", False),
        (("*",), "/api/v1/analytics/usage", True),
    ],
)
def test_endpoints_are_paths_or_globs(allowed: tuple[str, ...], route: str, expected: bool) -> None:  # noqa: FBT001
    assert covers(allowed, route) is expected


@pytest.mark.parametrize(
    "expires_at, revoked_at, expected",
    [
        (None, None, False),
        (NOW, None, False),
        (NOW - timedelta(microseconds=1), None, True),
        (None, NOW + timedelta(days=1), True),
    ],
)
def test_a_key_ends_by_time_or_by_hand(
    expires_at: datetime | None,
    revoked_at: datetime | None,
    expected: bool,  # noqa: FBT001
) -> None:
    assert has_ended(expires_at, revoked_at, NOW) is expected
