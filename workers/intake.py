"""What detection takes in: rows of both logs, read ahead, opened, and given out in the order of time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection

from domain.facts import CustomerErased, Recorded
from infra.senders import Senders
from projections import observations
from projections.behaviour import Reached
from projections.detection_rows import Row, add_event, add_use
from projections.merging import Queue, merged
from projections.projection import Log
from projections.reading import Decode, reader

SETTLE_SECONDS = 20.0
"""How late a row may come after it occurred: as long as a caller waits for its order to be carried out.

A row that says to be of a time further ahead than that is taken to be of then.
"""

_USAGE = f"SELECT {observations.USAGE_COLUMNS} FROM usage WHERE id > %s ORDER BY id LIMIT %s"  # noqa: S608


class Taken(NamedTuple):
    """A row in its turn: where it is, its time in the merged sequence, and how far both logs have come with it."""

    log: Log
    position: int
    at: float
    row: Row
    reached: Reached


class Intake:
    """Both logs from a point on. `most_rows` of each are read ahead. `instance` names the installation."""

    def __init__(  # noqa: PLR0913, PLR0917 - a point, how to open rows, and two limits
        self,
        reached: Reached,
        decode: Decode,
        senders: Senders,
        instance: str,
        settle_seconds: float,
        most_rows: int,
    ) -> None:
        self._reached = reached
        self._read_events = reader(decode)
        self._senders = senders
        self._instance = instance
        self._settle_seconds = settle_seconds
        self._most_rows = most_rows
        self._events: Queue[Row] = Queue(reached.events, reached.events_at)
        self._usage: Queue[Row] = Queue(reached.usage, reached.usage_at)

    @property
    def is_waiting(self) -> bool:
        """Tell whether rows that were read wait for their turn."""
        return bool(self._events.rows or self._usage.rows)

    def read(self, connection: Connection[Any], now: float) -> bool:
        """Read ahead; tell whether both logs were read to their ends. `now` is the database's time of before."""
        complete_until = now - self._settle_seconds
        at_ends = True
        for queue, take in ((self._events, self._take_events), (self._usage, self._take_uses)):
            queue.trust(now + self._settle_seconds)
            if len(queue.rows) >= self._most_rows:
                at_ends = False
            elif take(connection) < self._most_rows:
                queue.complete_until = complete_until
            else:
                at_ends = False
        return at_ends

    def take(self, most: int) -> list[Taken]:
        """Give out the next rows whose order is known."""
        taken: list[Taken] = []
        if most <= 0:
            return taken
        for is_event, placed in merged(self._events, self._usage):
            old = self._reached
            self._reached = (
                Reached(placed.position, old.usage, placed.at, old.usage_at)
                if is_event
                else Reached(old.events, placed.position, old.events_at, placed.at)
            )
            log: Log = "events" if is_event else "usage"
            taken.append(Taken(log, placed.position, placed.at, placed.row, self._reached))
            if len(taken) == most:
                break
        return taken

    def _take_events(self, connection: Connection[Any]) -> int:
        events = self._read_events(connection, self._events.read, self._most_rows)
        # First of all: what was sealed for whoever was erased is not opened any more, also of rows before that.
        if erased := [event.originator_id for _, event in events if _is_erasure(event)]:  # type: ignore[union-attr]
            self._senders.forget(erased)
        self._senders.remember(connection, _subjects(event for _, event in events))
        for position, event in events:
            add_event(self._events, position, event, self._senders)
        return len(events)

    def _take_uses(self, connection: Connection[Any]) -> int:
        uses = connection.execute(_USAGE, (self._usage.read, self._most_rows)).fetchall()
        self._senders.remember(connection, (use["subject_id"] for use in uses))
        for use in uses:
            add_use(self._usage, use, self._senders, self._instance)
        return len(uses)


def _subjects(events: Iterable[Recorded | Exception]) -> Iterable[UUID | None]:
    return (event.subject_id for event in events if isinstance(event, Recorded))


def _is_erasure(event: Recorded | Exception) -> bool:
    return isinstance(event, Recorded) and isinstance(event.fact, CustomerErased)
