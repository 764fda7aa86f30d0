"""What the event log has changed since this process last looked: what makes cached standings safe to serve."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias
from uuid import UUID

from domain.facts import CustomerErased

MAX_REMEMBERED = 50_000
"""Changed aggregates that are remembered one by one; standings read before the oldest of them count as changed."""
_NOBODY = UUID(int=0)
_ALL = 2**63
_ERASED = CustomerErased.stored_name

Change: TypeAlias = tuple[int, UUID] | tuple[int, UUID, bool]
"""Position of an event, its aggregate, and whether it erased that."""


class LogWatch:
    """Remembers, by aggregate, the position of its newest event. Every round of the usage log looks.

    `looked_at` is the second of `monotonic` at which it asked last, and got an answer: what it does not know to have
    changed was so then.
    `on_erased` is told of data subjects that were erased since it looked first.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        on_erased: Callable[[list[UUID]], None] = lambda _: None,
    ) -> None:
        self._monotonic = monotonic
        self._on_erased = on_erased
        self.looked_at = self._asked_at = float("-inf")
        self._changed: OrderedDict[UUID, int] = OrderedDict()
        self._floor = 0
        self.position = -1

    def query(self) -> str:
        """Return the SQL that selects (position, aggregate id, is it an erasure) of what was committed since last time.

        The first time it selects only where the log ends, under an id that no aggregate has. Ask for it right before it
        is sent: what the server says may come late, but was so from then on.
        """
        self._asked_at = self._monotonic()
        if self.position < 0:
            return f"SELECT coalesce(max(notification_id), 0), '{_NOBODY}'::uuid, false FROM licensing_events"  # noqa: S608
        return (
            f"SELECT notification_id, originator_id, topic = '{_ERASED}' AS is_erasure FROM licensing_events"  # noqa: S608
            f" WHERE notification_id > {self.position} ORDER BY notification_id LIMIT {MAX_REMEMBERED}"
        )

    def learn(self, changes: Sequence[Change]) -> None:
        """Take note of what the query gave, in its order."""
        if erased := [change[1] for change in changes if len(change) > 2 and change[2]]:  # noqa: PLR2004
            self._on_erased(erased)
        self.looked_at = self._asked_at
        if self.position < 0:
            self._start_at(changes[0][0])
            return
        if not changes and self._floor != _ALL:
            return
        self.position = changes[-1][0] if changes else self.position
        if len(changes) == MAX_REMEMBERED:
            # There may be more: until the next look has caught up, everything counts as changed.
            self._start_at(self.position)
            self._floor = _ALL
            return
        if self._floor == _ALL:
            self._floor = self.position
        for position, aggregate_id, *_ in changes:
            self._changed[aggregate_id] = position
            self._changed.move_to_end(aggregate_id)
        while len(self._changed) > MAX_REMEMBERED:
            _, self._floor = self._changed.popitem(last=False)

    def changed_since(self, aggregate_id: UUID, position: int) -> bool:
        """Tell whether the aggregate has, or may have, an event after `position` that was seen by a look."""
        if position < self._floor:
            return True
        # Mostly nothing at all was committed since, and an id costs more to look up than numbers to compare.
        return position < self.position and self._changed.get(aggregate_id, 0) > position

    def _start_at(self, position: int) -> None:
        self._changed.clear()
        self.position = self._floor = position


_ANY_CHANGED = """
    SELECT EXISTS (
        SELECT FROM licensing_events e JOIN unnest(%s::uuid[], %s::bigint[]) AS known (id, position)
            ON e.originator_id = known.id AND e.notification_id > known.position
    ) AS changed
"""


async def any_changed(connection: Any, checks: Sequence[tuple[UUID, int]]) -> bool:
    """Ask the log whether any of some aggregates has an event after the position at which it was read."""
    cursor = await connection.execute(_ANY_CHANGED, ([check[0] for check in checks], [check[1] for check in checks]))
    row = await cursor.fetchone()
    return bool(row["changed"])
