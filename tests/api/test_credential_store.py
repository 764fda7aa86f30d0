"""API keys in memory: how long they are gone by, while the database answers and while it is away."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from api.credential_store import ApiKeys
from infra.api_secrets import new_api_key
from projections import api_keys
from projections.log_watch import LogWatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY_ID = UUID(int=1)


class View:
    """Stands in for what is read of a key."""

    key_id = KEY_ID
    position = 10


class Pool:
    """Gives connections on which nothing is asked."""

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[None]:
        yield


async def test_while_the_database_is_away_the_last_look_at_the_log_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def by_digest(connection: Any, digest: bytes) -> Any:
        del connection, digest
        return View()

    monkeypatch.setattr(api_keys, "by_digest", by_digest)
    now = [500.0]
    watch = LogWatch(lambda: now[0])
    watch.query()
    watch.learn([(10, UUID(int=0))])
    keys, key = ApiKeys(Pool(), watch), new_api_key()
    view = await keys.read(key, 100.0)
    assert keys.remembered(key, 400.0) is view
    assert keys.remembered(key, 400.1) is None
    assert keys.remembered(key, 800.0, is_away=True) is view
    assert keys.remembered(key, 800.1, is_away=True) is None
    watch.learn([(11, KEY_ID)])
    assert keys.remembered(key, 500.0, is_away=True) is None
