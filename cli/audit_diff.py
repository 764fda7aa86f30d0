"""What differs between two positions: each licence that something happened to, and what else happened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg import DataError
from psycopg.rows import dict_row

from api.past_answers import change_answers, last_event, opener_of
from api.schemas.admin import LastEvent
from api.schemas.history import ChangeAnswer
from cli.core import Workbench
from cli.errors import Failure
from cli.log_messages import Connection
from commands.event_mapper import decoder
from domain.facts import Recorded
from domain.history.past import NOTHING, Entry, LicenseThen, Moment, Picture, advance, compared, devices_of, picture
from projections import history

# What a licence is known by; the anomalies found on it are events of their own.
_TOUCHED = """
    SELECT originator_id, count(*) AS events, min(notification_id) AS first FROM licensing_events
    WHERE notification_id > %(after)s AND notification_id <= %(to)s
        AND (%(wanted)s::uuid[] IS NULL OR originator_id = ANY(%(wanted)s))
    GROUP BY originator_id ORDER BY first
"""
_COUNT = f"SELECT count(*) AS licenses FROM ({_TOUCHED}) AS touched"  # noqa: S608 - a constant
_BETWEEN = """
    SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events
    WHERE originator_id = %s AND notification_id > %s AND notification_id <= %s ORDER BY originator_version
"""
# The log's order counts: before the first event that occurred later.
_POSITION_AT = """
    SELECT notification_id - 1 AS position FROM licensing_events
    WHERE (convert_from(state, 'UTF8')::jsonb ->> 'occurred_at')::timestamptz > %s ORDER BY notification_id LIMIT 1
"""
_PAGE = 500


class LicenseDifference(msgspec.Struct, kw_only=True):
    """A licence that something happened to, and what is different in the end; `from_` is null where it is new."""

    license_id: UUID
    customer_id: Any
    events: int
    from_: LastEvent | None = msgspec.field(name="from")
    to: LastEvent
    changes: list[ChangeAnswer]


class OtherEvent(msgspec.Struct, kw_only=True):
    """An event of something else: an API key, an anomaly, settings, a customer."""

    event_id: UUID
    position: int
    type: str
    about: UUID
    occurred_at: datetime
    actor: str


Difference = LicenseDifference | OtherEvent


async def position_of(connection: Connection, moment: Moment) -> int:
    """Return the position up to which a moment goes.

    Raises Failure where it lies beyond the log's end, and for a time where an event before it can't be read.
    """
    end = await history.end(connection)
    if moment.position is None:
        try:
            row = await (await connection.execute(_POSITION_AT, (moment.time,))).fetchone()
        except DataError as error:
            raise Failure("an event can't be read, so times are not known: give positions") from error
        return end if row is None else int(row["position"])
    if moment.position > end:
        raise Failure(f"the log ends at position {end}")
    return moment.position


class Differences:
    """What happened after position `after`, up to and including `to`; of these ids where they are given.

    `connection` is a second one: ids come on it while each one's history is read on the workbench's.
    """

    def __init__(
        self, bench: Workbench, connection: Connection, after: int, to: int, wanted: frozenset[UUID] | None
    ) -> None:
        self._bench = bench
        self._ids = connection
        self._after = after
        self._to = to
        self._given = {"after": after, "to": to, "wanted": None if wanted is None else list(wanted)}
        self._decode = decoder()

    async def count(self) -> int:
        """Return how many licences and other things something happened to."""
        row = await (await self._ids.execute(_COUNT, self._given)).fetchone()
        assert row is not None
        return int(row["licenses"])

    async def each(self) -> AsyncIterator[list[Difference]]:
        """Give what differs of each, in the order in which something happened to them first.

        Raises Failure where an event can't be read, or can't follow the one before it.
        """
        async with self._ids.transaction(), self._ids.cursor("touched", row_factory=dict_row) as cursor:
            cursor.itersize = _PAGE
            await cursor.execute(_TOUCHED, self._given)
            async for row in cursor:
                try:
                    found = await self._of(row["originator_id"], row["events"])
                except (ValueError, KeyError, msgspec.MsgspecError) as error:
                    # Whoever reads on would believe the rest.
                    raise Failure(f"the events of {row['originator_id']} make no history: {error!r}") from error
                yield found

    async def _of(self, id: UUID, events: int) -> list[Difference]:
        then, before, touched = await self._folded(id)
        return await self._others(id) if then is None else [await self._difference(then, before, touched, events)]

    async def _folded(self, id: UUID) -> tuple[LicenseThen | None, tuple[Picture, LastEvent | None], set[str]]:
        """Return a licence at the end, what was to be seen of it at the beginning, and which devices it is about."""
        then: LicenseThen | None = None
        before: tuple[Picture, LastEvent | None] = NOTHING, None
        touched, has_begun = set[str](), False
        async for entry in history.story(self._bench.connection, id, self._decode, Moment(position=self._to)):
            if entry.position > self._after:
                if not has_begun and then is not None:
                    before = picture(then), last_event(then.last)
                has_begun = True
                touched.update(devices_of(entry.event.fact))
            then = advance(then, entry)
        return then, before, touched

    async def _difference(
        self, then: LicenseThen, before: tuple[Picture, LastEvent | None], touched: set[str], events: int
    ) -> LicenseDifference:
        bench = self._bench
        opener = await opener_of(bench.vault, bench.subjects, bench.connection, then.subject_id)
        changes = compared(before[0], picture(then), sorted(touched))
        return LicenseDifference(
            license_id=then.license.id,
            customer_id=opener.shown(then.sealed.get("customer_id")),
            events=events,
            from_=before[1],
            to=last_event(then.last),
            changes=change_answers(opener, changes),
        )

    async def _others(self, id: UUID) -> list[Difference]:
        cursor = await self._bench.connection.execute(_BETWEEN, (id, self._after, self._to))
        entries = [Entry(row["notification_id"], self._decode(row)) for row in await cursor.fetchall()]
        return [_other(entry.position, entry.event) for entry in entries]


def _other(position: int, event: Recorded) -> OtherEvent:
    return OtherEvent(
        event_id=event.event_id,
        position=position,
        type=event.fact.stored_name,
        about=event.originator_id,
        occurred_at=event.occurred_at,
        actor=event.cause.actor,
    )
