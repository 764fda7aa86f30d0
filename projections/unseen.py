"""What both logs hold of one licence that detection has not looked at yet, and what it remembers of the licence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, NamedTuple
from uuid import UUID

from domain.anomalies.thresholds import Thresholds
from domain.facts import Recorded
from projections import behaviour, observations, thresholds
from projections.behaviour import Reached
from projections.reading import Decode, Events, decoded

_EVENTS = """
    SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events
    WHERE originator_id = ANY(%s) AND notification_id > %s ORDER BY notification_id LIMIT %s
"""
_USES = f"SELECT {observations.USAGE_COLUMNS} FROM usage WHERE license_id = %s AND id > %s ORDER BY id LIMIT %s"  # noqa: S608

_AT_ONCE = 500
"""Rows that are decoded before others have their turn: some milliseconds' work."""


class Unseen(NamedTuple):
    """Rows of a licence after the positions that detection has reached, each log in its order.

    `state` is what is remembered of the licence at those positions, None where nothing is; `thresholds` are those in
    force there. Among the events are changes of thresholds, and what people said of the licence's anomalies.
    """

    reached: Reached
    state: bytes | None
    thresholds: Thresholds
    events: Events
    uses: list[dict[str, Any]]

    def subjects(self) -> set[UUID | None]:
        """Return whose keys open what is sealed in the rows."""
        of_events = {event.subject_id for _, event in self.events if isinstance(event, Recorded)}
        return of_events | {use["subject_id"] for use in self.uses}


async def of_license(connection: Any, license_id: UUID, resolved: Iterable[UUID], decode: Decode, limit: int) -> Unseen:
    """Read it, up to `limit` rows of each log, in one snapshot. `resolved` are the licence's anomalies with a word."""
    reached = await behaviour.reached_async(connection)
    originators = [license_id, thresholds.SETTINGS_ID, *resolved]
    events = await connection.execute(_EVENTS, (originators, reached.events, limit))
    uses = await connection.execute(_USES, (license_id, reached.usage, limit))
    return Unseen(
        reached=reached,
        state=await behaviour.license(connection, license_id),
        thresholds=await thresholds.in_force_async(connection, reached.events, decode),
        events=[(row["notification_id"], decoded(decode, row)) async for row in _each(events)],
        uses=[row async for row in _each(uses)],
    )


async def _each(cursor: Any) -> AsyncIterator[dict[str, Any]]:
    """Give a cursor's rows, and others their turn in between."""
    while rows := await cursor.fetchmany(_AT_ONCE):
        for row in rows:
            yield row
        await asyncio.sleep(0)
