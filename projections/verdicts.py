"""Standings in memory: what a validation is answered from. Never behind, because each use is checked.

Only positive standings are kept (an active licence and an active device); expiry is looked at on each request.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from uuid import UUID

from projections.log_watch import LogWatch
from projections.standing import Standing

MAX_AGE_SECONDS = 300.0
"""How long what was read is gone by; while the database is away, how long what was last known to hold is."""
MAX_STANDINGS = 100_000

Key = tuple[bytes, bytes]
"""(licence key digest or licence id, device digest). They differ in length: 32 bytes, 16, and 16."""


class StandingCache:
    """A bounded cache of positive standings, the least recently used going first."""

    def __init__(self, watch: LogWatch, capacity: int = MAX_STANDINGS) -> None:
        self._watch = watch
        self._capacity = capacity
        self._standings: OrderedDict[Key, Standing] = OrderedDict()

    def get(self, key: Key, monotonic: float, *, is_away: bool = False) -> Standing | None:
        """Return a standing not older than five minutes that no known event has touched.

        While the database `is_away`, its age is counted from the last look at the log, which had not changed it.
        """
        standing = self._standings.get(key)
        if standing is None:
            return None
        if self._watch.changed_since(standing.license_id, standing.position):
            self._standings.pop(key, None)
            return None
        if monotonic - standing.read_at > MAX_AGE_SECONDS and not (
            is_away and monotonic - self._watch.looked_at <= MAX_AGE_SECONDS
        ):
            # It is kept: should the database be found to be away, the last look counts.
            return None
        self._standings.move_to_end(key)
        return standing

    def put(self, key: Key, standing: Standing) -> None:
        """Keep a standing that is positive, unless the log is known to have changed it since it was read."""
        if not standing.is_active or not standing.device_is_active:
            return
        if self._watch.changed_since(standing.license_id, standing.position):
            return
        self._standings[key] = standing
        if len(self._standings) > self._capacity:
            self._standings.popitem(last=False)

    def drop(self, key: Key) -> None:
        """Forget a standing."""
        self._standings.pop(key, None)

    def drop_subjects(self, subject_ids: Collection[UUID]) -> None:
        """Forget what was read of data subjects that were erased: sealed fields are in it."""
        gone = set(subject_ids)
        for key in [key for key, standing in self._standings.items() if standing.subject_id in gone]:
            del self._standings[key]

    def __len__(self) -> int:
        return len(self._standings)
