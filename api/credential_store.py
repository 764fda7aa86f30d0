"""Credentials as the services look them up: API keys from memory where that is safe, named admin keys always afresh."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from infra.api_secrets import digest, well_formed
from projections import api_keys
from projections.api_keys import ApiKeyView
from projections.log_watch import LogWatch
from projections.verdicts import MAX_AGE_SECONDS

MAX_KEYS = 10_000


class ApiKeys:
    """API keys by their digest. What is remembered is checked against the log's changes at each use."""

    def __init__(self, pool: Any, watch: LogWatch) -> None:
        self._pool = pool
        self._watch = watch
        self._views: OrderedDict[str, tuple[ApiKeyView, float]] = OrderedDict()

    def remembered(self, key: str, monotonic: float, *, is_away: bool = False) -> ApiKeyView | None:
        """Return the key's view from memory: not older than five minutes, and not known to have changed since.

        While the database `is_away`, its age is counted from the last look at the log, which had not changed it.
        """
        found = self._views.get(key)
        if found is None:
            return None
        view, read_at = found
        if self._watch.changed_since(view.key_id, view.position):
            del self._views[key]
            return None
        if monotonic - read_at > MAX_AGE_SECONDS and not (
            is_away and monotonic - self._watch.looked_at <= MAX_AGE_SECONDS
        ):
            return None
        return view

    async def read(self, key: str, monotonic: float) -> ApiKeyView | None:
        """Return the key's view from the database, and remember it. A malformed key costs no query."""
        if not well_formed(key):
            return None
        async with self._pool.connection() as connection:
            view = await api_keys.by_digest(connection, digest(key))
        if view is not None and not self._watch.changed_since(view.key_id, view.position):
            self._views[key] = (view, monotonic)
            if len(self._views) > MAX_KEYS:
                self._views.popitem(last=False)
        return view

    def forget(self, key: str) -> None:
        """Drop a key from memory."""
        self._views.pop(key, None)


class NamedAdmins:
    """Admin keys made by `lizenzserver admins add`, by their digest."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def name_of(self, key: str) -> str | None:
        """Return whose key this is, or None where it is nobody's."""
        if not key.startswith("adm_"):
            return None
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT name FROM admin_keys WHERE key_digest = %s AND removed_at IS NULL", (digest(key),)
            )
            row = await cursor.fetchone()
        return row["name"] if row else None
