"""The next rows of both logs as messages, and a cheap way to tell whether there are any."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from domain.facts import Recorded
from workers.messages import Message, of_event, of_usage

Decode = Callable[[Mapping[str, Any]], Recorded]
"""Turns a row of the event log into an event."""

SETTLE_SECONDS = 2.0
"""An id of the usage log is given out before its row can be seen: for so long, the table itself is looked at."""
SEARCH_SECONDS = 1.0
"""How often the usage table is looked at although its sequence has not moved."""

_EVENTS = """
    SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events
    WHERE notification_id > %s ORDER BY notification_id LIMIT %s
"""
_USAGE = """
    SELECT id, occurred_at, type, operation, license_id, key_digest, hardware_id, api_key_id, reason, app_version,
        client_time, country, network
    FROM usage WHERE id > %s ORDER BY id LIMIT %s
"""
# The usage log's largest id would be looked for in each day's partition.
ENDS = """
    SELECT coalesce((SELECT max(notification_id) FROM licensing_events), 0) AS events,
        CASE WHEN is_called THEN last_value ELSE 0 END AS usage
    FROM usage_id_seq
"""
"""How far both logs go."""


class UnreadableEvent(Exception):
    """The event at `position` is none that this program can read."""

    def __init__(self, position: int) -> None:
        super().__init__(f"the event at position {position} can't be read")
        self.position = position


@dataclass(frozen=True, slots=True)
class Ends:
    """How far the logs go. `usage` is the last id that was given out: its row may not be there yet, or never."""

    events: int
    usage: int


async def ends(connection: AsyncConnection[Any]) -> Ends:
    """Return how far the logs go. The connection gives rows as dicts, as all here do."""
    row = await (await connection.execute(ENDS)).fetchone()
    assert row is not None
    return Ends(row["events"], row["usage"])


async def installation(connection: AsyncConnection[Any]) -> str | None:
    """Return the fingerprint that names this installation in messages; the first start of a service gives it."""
    row = await (await connection.execute("SELECT key_fingerprint FROM service_identity")).fetchone()
    return None if row is None else str(row["key_fingerprint"])


async def events_after(
    connection: AsyncConnection[Any], position: int, limit: int, decode: Decode, instance: str
) -> list[Message]:
    """Return the next events' messages; fewer than there are where one can't be read.

    Raises UnreadableEvent where it is the first one.
    """
    return messages_of(await (await connection.execute(_EVENTS, (position, limit))).fetchall(), decode, instance)


def messages_of(rows: Iterable[Mapping[str, Any]], decode: Decode, instance: str) -> list[Message]:
    """Return the messages of rows of the event log, up to the first one that can't be read.

    Raises UnreadableEvent where it is the first of them.
    """
    found: list[Message] = []
    for row in rows:
        try:
            event = decode(row)
        except Exception as error:
            if found:
                break
            raise UnreadableEvent(row["notification_id"]) from error
        found.append(of_event(row["notification_id"], event, instance))
    return found


async def usage_after(connection: AsyncConnection[Any], position: int, limit: int, instance: str) -> list[Message]:
    """Return the messages of the usage log's next rows."""
    rows = await (await connection.execute(_USAGE, (position, limit))).fetchall()
    return [of_usage(row, instance) for row in rows]


class UsageWatch:
    """Tells whether the usage log is worth a look: looking takes a search in each day's partition."""

    def __init__(self) -> None:
        self._end = -1
        self._moved_at = self._searched_at = 0.0

    def may_have_news(self, end: int) -> bool:
        """Tell whether to look, given the last id that was given out."""
        now = time.monotonic()
        if end != self._end:
            self._end, self._moved_at = end, now
        if now - self._moved_at > SETTLE_SECONDS and now - self._searched_at < SEARCH_SECONDS:
            return False
        self._searched_at = now
        return True
