"""The history of both logs over a period, read page after page: what happened, in order, and what licences allowed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection
from psycopg.rows import namedtuple_row

from cli.usage_lines import LicenseLine, Lines
from domain.facts import LicenseIssued, LicenseUpdated, Recorded
from infra.senders import Senders
from projections.detection_rows import time_of
from projections.merging import Queue, merged
from projections.reading import Decode, reader

PAGE = 5_000
LICENSES_A_PAGE = 1_000

_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

# Both logs' positions are in the order of commits, so that nothing is still to come up to these.
_SPAN = """
    SELECT coalesce((SELECT max(notification_id) FROM licensing_events), 0) AS events,
        coalesce(min(id), 1) - 1 AS usage_before, coalesce(max(id), 0) AS usage
    FROM usage WHERE occurred_at >= %(since)s AND occurred_at < %(until)s
"""
# A page is a range of ids: by LIMIT, the server sorts all that is still to come wherever it has no statistics yet.
# A page's last row comes whether it is wanted or not: it tells how far the log's time has come with the page.
_USAGE = """
    SELECT id, occurred_at, type, operation, license_id, key_digest, subject_id, hardware_id, reason, app_version,
        client_time, country, details_sealed, latest, is_wanted
    FROM (
        SELECT *, max(occurred_at) OVER (ORDER BY id) AS latest, lead(id) OVER (ORDER BY id) IS NULL AS is_last,
            occurred_at < %(until)s AND (%(license)s::uuid IS NULL OR license_id = %(license)s) IS TRUE AS is_wanted
        FROM (
            SELECT * FROM usage WHERE id > %(after)s AND id <= %(up_to)s AND occurred_at >= %(since)s
        ) AS page
    ) AS told
    WHERE is_last OR is_wanted ORDER BY id
"""
_ISSUED = """
    SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events
    WHERE topic = 'license.issued' AND notification_id > %(after)s AND notification_id <= %(end)s
        AND (%(license)s::uuid IS NULL OR originator_id = %(license)s)
    ORDER BY notification_id LIMIT %(most)s
"""
_CHANGED = """
    SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events
    WHERE originator_id = ANY(%(licenses)s) AND topic = 'license.updated' AND notification_id <= %(end)s
    ORDER BY notification_id
"""
_IS_LICENSE = "SELECT FROM licensing_events WHERE originator_id = %s AND topic = 'license.issued'"

Advance = Callable[[int], None]
"""Is told of rows that were dealt with."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Rows that occurred at `since` or later, before `until`, and of one licence where it is given."""

    since: datetime = _FIRST
    until: datetime = _LAST
    license_id: UUID | None = None

    def __contains__(self, event: Recorded) -> bool:
        is_of_license = self.license_id is None or event.originator_id == self.license_id
        return is_of_license and self.since <= event.occurred_at < self.until


class Span(NamedTuple):
    """Where both logs end; the usage log's rows that may be wanted come after `usage_before`."""

    events: int
    usage_before: int
    usage: int

    @property
    def rows(self) -> int:
        """How many rows there are to be looked at, at most."""
        return self.events + max(0, self.usage - self.usage_before)


class History:
    """What both logs hold now. The connection is synchronous and gives dicts.

    `unreadable` counts events that this program can't read: they are left out.
    """

    def __init__(
        self, connection: Connection[Any], wanted: Wanted, decode: Decode, senders: Senders, lines: Lines
    ) -> None:
        self._connection = connection
        self._wanted = wanted
        self._decode = decode
        self._read_events = reader(decode)
        self._senders = senders
        self._lines = lines
        self._given = {"since": wanted.since, "until": wanted.until, "license": wanted.license_id}
        self.unreadable = 0
        row = connection.execute(_SPAN, self._given).fetchone()
        assert row is not None
        self.span = Span(**row)

    @property
    def has_license(self) -> bool:
        """Tell whether the licence that is asked for was ever issued; so it is where none is asked for."""
        license_id = self._wanted.license_id
        return license_id is None or self._connection.execute(_IS_LICENSE, (license_id,)).fetchone() is not None

    def lines(self, advance: Advance) -> Iterator[bytes]:
        """Give what happened, a line each, in the order in which detection looks at it."""
        events: Queue[bytes | None] = Queue(0, 0.0)
        usage: Queue[bytes | None] = Queue(self.span.usage_before, 0.0)
        while True:
            for queue, end, read in ((events, self.span.events, self._events), (usage, self.span.usage, self._usage)):
                if not queue.rows and queue.read < end:
                    before = queue.read
                    read(queue, end)
                    advance(queue.read - before)
                if queue.read >= end:
                    queue.complete_until = math.inf
            for _, placed in merged(events, usage):
                if placed.row is not None:
                    yield placed.row
            if not (events.rows or usage.rows) and events.read >= self.span.events and usage.read >= self.span.usage:
                return

    def licenses(self) -> Iterator[LicenseLine]:
        """Give what licences that were issued before the period's end allowed at its beginning.

        Of one that was issued within the period, that is what it was issued with. Later changes are among the lines.
        """
        after = 0
        while rows := self._page(_ISSUED, after=after, most=LICENSES_A_PAGE):
            after = rows[-1]["notification_id"]
            found: dict[UUID, LicenseLine] = {}
            for fact, event in self._readable(rows):
                if isinstance(fact, LicenseIssued) and event.occurred_at < self._wanted.until:
                    id = event.originator_id
                    found[id] = LicenseLine(id, fact.max_devices, fact.floating, fact.expires_at)
            if self._wanted.since > _FIRST:
                for fact, event in self._readable(self._page(_CHANGED, licenses=list(found))):
                    if isinstance(fact, LicenseUpdated) and event.occurred_at < self._wanted.since:
                        found[event.originator_id].change(fact)
            yield from found.values()

    def _page(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        return self._connection.execute(query, {**self._given, "end": self.span.events, **parameters}).fetchall()

    def _readable(self, rows: list[dict[str, Any]]) -> Iterator[tuple[Any, Recorded]]:
        """Decode events; those that can't be are counted where they are read as what happened."""
        for row in rows:
            try:
                event = self._decode(row)
            except Exception:  # noqa: BLE001, S112 - whatever is wrong with it
                continue
            yield event.fact, event

    def _events(self, queue: Queue[bytes | None], end: int) -> None:
        """Take the next page of the event log."""
        page = [found for found in self._read_events(self._connection, queue.read, PAGE) if found[0] <= end]
        wanted = [event for _, event in page if isinstance(event, Recorded) and event in self._wanted]
        self._senders.remember(self._connection, (event.subject_id for event in wanted))
        for position, event in page:
            line = None
            if isinstance(event, Exception):
                self.unreadable += 1
            elif event in self._wanted:
                line = self._lines.of_event(event)
            queue.add(position, time_of(event), line)

    def _usage(self, queue: Queue[bytes | None], end: int) -> None:
        """Take the next page of the usage log."""
        up_to = min(queue.read + PAGE, end)
        parameters = {**self._given, "after": queue.read, "up_to": up_to}
        with self._connection.cursor(row_factory=namedtuple_row) as cursor:
            rows: list[Any] = cursor.execute(_USAGE, parameters, binary=True).fetchall()
        self._senders.remember(self._connection, (row.subject_id for row in rows if row.is_wanted))
        for row in rows:
            queue.add(row.id, row.latest.timestamp(), self._lines.of_use(row) if row.is_wanted else None)
        # There may be gaps, by rows that were not stored or that retention has dropped meanwhile.
        queue.read = up_to
