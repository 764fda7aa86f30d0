"""Both logs as one sequence in the order of time, the same whenever and however often they are read.

A row's time is the latest that its log has had up to it: so it never goes back within a log, and is a matter of the log
alone. Of two rows of one time, the event is first. Where one log has no more rows, the other's are taken up to a time
before which nothing can come any more. A time that is still to come is no time: a clock was wrong, and nothing would go
on before it has come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Generic, NamedTuple, TypeVar

Row = TypeVar("Row")


class Placed(NamedTuple, Generic[Row]):
    """A row, its position in its log, and its time in the merged sequence, in seconds since 1970."""

    at: float
    position: int
    row: Row


@dataclass(slots=True)
class Queue(Generic[Row]):
    """Rows of one log that were read, and wait for their turn.

    `read` is the position up to which the log was read, `latest` the latest time up to there. Nothing that occurred
    before `complete_until` is still to come, and nothing has occurred after `trusted_until`.
    """

    read: int
    latest: float
    complete_until: float = 0.0
    trusted_until: float = inf
    rows: deque[Placed[Row]] = field(default_factory=deque)

    def add(self, position: int, at: float | None, row: Row) -> None:
        """Take the next row of the log, which occurred at a time; None: it stands with the row before it."""
        if at is not None:
            self.latest = max(self.latest, min(at, self.trusted_until))
        self.rows.append(Placed(self.latest, position, row))
        self.read = position

    def trust(self, until: float) -> None:
        """Take no time for true that is later, be it of rows still to be read or of those that wait already."""
        self.trusted_until = until
        if self.latest > until:
            self.latest = until
            self.rows = deque(placed._replace(at=min(placed.at, until)) for placed in self.rows)


def merged(events: Queue[Row], usage: Queue[Row]) -> Iterator[tuple[bool, Placed[Row]]]:
    """Take rows off both queues, in order; the first is whether it is an event.

    It ends where a queue has run out and its next row could come before the other's.
    """
    while True:
        event = events.rows[0] if events.rows else None
        use = usage.rows[0] if usage.rows else None
        if event is not None and use is not None:
            is_event = event.at <= use.at
        elif event is not None:
            # What is still to come in the other log is not before its latest row, and of one time the event is first.
            if not (event.at <= usage.latest or event.at < usage.complete_until):
                return
            is_event = True
        elif use is not None:
            if not (use.at < events.latest or use.at < events.complete_until):
                return
            is_event = False
        else:
            return
        yield is_event, (events if is_event else usage).rows.popleft()
