"""The next events of the log, decoded: now, or ahead of time in a thread, while those before are being applied."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from psycopg import Connection

from domain.facts import Recorded

Decode = Callable[[dict[str, Any]], Recorded]
"""Turns a row of the event log into an event."""

Events = list[tuple[int, Recorded | Exception]]
"""Positions, each with its event, or with why it can't be decoded."""

ReadEvents = Callable[[Connection[Any], int, int], Events]
"""Returns up to so many events after a position."""

_EVENTS = """
    SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events
    WHERE notification_id > %s ORDER BY notification_id LIMIT %s
"""


def reader(decode: Decode) -> ReadEvents:
    """Return the function that reads and decodes when it is asked."""

    def read(connection: Connection[Any], after: int, limit: int) -> Events:
        rows = connection.execute(_EVENTS, (after, limit)).fetchall()
        return [(row["notification_id"], decoded(decode, row)) for row in rows]

    return read


class ReadAhead:
    """Reads the next batch on a connection of its own while the caller works on the last one.

    What it gives may be older than the question, so that it suits a log of which the end does not matter yet.
    """

    def __init__(self, connection: Connection[Any], decode: Decode) -> None:
        self._connection = connection
        self._read = reader(decode)
        self._thread = ThreadPoolExecutor(1, "read ahead")
        self._next: tuple[int, int, Future[Events]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown(cancel_futures=True)

    def __call__(self, connection: Connection[Any], after: int, limit: int) -> Events:
        """Return the events after a position, and begin to read those that follow. The connection is not used."""
        del connection
        if self._next is not None and self._next[:2] == (after, limit):
            events = self._next[2].result()
        else:
            events = self._thread.submit(self._read, self._connection, after, limit).result()
        if len(events) == limit:
            last = events[-1][0]
            self._next = last, limit, self._thread.submit(self._read, self._connection, last, limit)
        return events


def decoded(decode: Decode, row: dict[str, Any]) -> Recorded | Exception:
    """Turn a row of the event log into an event, or into why that can't be done."""
    try:
        return decode(row)
    except Exception as error:  # noqa: BLE001 - whoever applies the event decides what becomes of it
        return error
