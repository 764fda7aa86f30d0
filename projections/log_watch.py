"""What the event log has changed since this process last looked: what makes cached standings safe to serve."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any
from uuid import UUID

MAX_REMEMBERED = 50_000
"""Changed aggregates that are remembered one by one; standings read before the oldest of them count as changed."""

_CHANGES = """
    SELECT notification_id, originator_id FROM licensing_events
    WHERE notification_id > %s ORDER BY notification_id LIMIT %s
"""


class LogWatch:
    """Remembers, by aggregate, the position of its newest event. One thread looks; any thread may ask."""

    def __init__(self) -> None:
        self._changed: OrderedDict[UUID, int] = OrderedDict()
        self._floor = 0
        self.position = -1

    def look(self, connection: Any) -> None:
        """Read what was committed since the last look. The first look remembers only where the log ends."""
        if self.position < 0:
            self._start(connection)
            return
        rows = connection.execute(_CHANGES, (self.position, MAX_REMEMBERED)).fetchall()
        if len(rows) == MAX_REMEMBERED:
            self._start(connection)
            return
        for row in rows:
            self._changed[row["originator_id"]] = row["notification_id"]
            self._changed.move_to_end(row["originator_id"])
        if rows:
            self.position = rows[-1]["notification_id"]
        while len(self._changed) > MAX_REMEMBERED:
            _, self._floor = self._changed.popitem(last=False)

    def changed_since(self, aggregate_id: UUID, position: int) -> bool:
        """Tell whether the aggregate has, or may have, an event after `position` that was seen by a look."""
        return position < self._floor or self._changed.get(aggregate_id, 0) > position

    def _start(self, connection: Any) -> None:
        row = connection.execute("SELECT coalesce(max(notification_id), 0) AS head FROM licensing_events").fetchone()
        self._changed.clear()
        self.position = self._floor = row["head"]
