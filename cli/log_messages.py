"""Rows of the logs as messages, batch after batch, for commands that look through them."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import LiteralString, TypeAlias
from uuid import UUID

import msgspec
from psycopg import AsyncConnection, DataError
from psycopg.rows import DictRow, dict_row

from cli.output import say
from commands.event_mapper import decoder
from domain.facts import AnomalyDetected, AnomalyResolved, CustomerErased
from infra.postgres import Database
from projections.projection import Log
from workers.log_reader import (
    UnreadableEvent,
    UsageWatch,
    ends,
    events_after,
    installation,
    messages_of,
    usage_after,
)
from workers.messages import Message

BATCH = 1000

Connection: TypeAlias = AsyncConnection[DictRow]


class _Data(msgspec.Struct, frozen=True):
    license_ids: tuple[str, ...] = ()


class _About(msgspec.Struct, frozen=True):
    data: _Data
    subject: str | None = None


_about = msgspec.json.Decoder(_About)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages are wanted: of one of these types (shell patterns; none: all), about one of these where given.

    `about` are ids as messages name their subjects; an erasure is about all licences of whoever was erased. What
    occurred before `since`, or not before `until`, is not.
    """

    types: tuple[str, ...] = ()
    about: frozenset[str] | None = None
    since: datetime | None = None
    until: datetime | None = None

    @classmethod
    def of(cls, types: Sequence[str] | None, license_id: UUID | None) -> Wanted:
        """Want these types, about this licence where it is given."""
        return cls(tuple(types or ()), None if license_id is None else frozenset({str(license_id)}))

    def __contains__(self, message: Message) -> bool:
        if self.types and not any(fnmatchcase(message.type, pattern) for pattern in self.types):
            return False
        if (self.since is not None and message.time < self.since) or (
            self.until is not None and message.time >= self.until
        ):
            return False
        return self.about is None or self._is_about(message)

    def _is_about(self, message: Message) -> bool:
        assert self.about is not None
        read = _about.decode(message.body)
        return read.subject in self.about or not self.about.isdisjoint(read.data.license_ids)


@asynccontextmanager
async def reading(database: Database, name: str) -> AsyncIterator[Connection]:
    """Give a connection to read the logs by; `name` is what the server shows. A query may look through a whole log."""
    connection = await AsyncConnection[DictRow].connect(
        database.conninfo(f"lizenzserver-{name}", statement_timeout="0"), autocommit=True, row_factory=dict_row
    )
    async with connection:
        yield connection


async def last_position(connection: Connection, log: Log) -> int:
    """Return the position of a log's last row, 0 where there is none."""
    if log == "events":
        return (await ends(connection)).events
    # What was given out may be in a transaction that is under way, so the sequence does not say it.
    row = await (await connection.execute("SELECT coalesce(max(id), 0) AS last FROM usage")).fetchone()
    assert row is not None
    last: int = row["last"]
    return last


# Rows before the first and after the last of these can't be wanted, whatever the order of times in the log.
_FIRST_EVENT = """
    SELECT notification_id AS position FROM licensing_events
    WHERE (convert_from(state, 'UTF8')::jsonb ->> 'occurred_at')::timestamptz >= %s ORDER BY notification_id LIMIT 1
"""
_LAST_EVENT = """
    SELECT notification_id AS position FROM licensing_events
    WHERE (convert_from(state, 'UTF8')::jsonb ->> 'occurred_at')::timestamptz < %s ORDER BY notification_id DESC LIMIT 1
"""
_FIRST_USE = "SELECT min(id) AS position FROM usage WHERE occurred_at >= %s"
_LAST_USE = "SELECT max(id) AS position FROM usage WHERE occurred_at < %s"


async def narrowed(connection: Connection, log: Log, first: int, last: int, wanted: Wanted) -> tuple[int, int]:
    """Return between which positions the wanted times lie: the server finds them ten times as fast as reading does."""
    queries = (_FIRST_EVENT, _LAST_EVENT) if log == "events" else (_FIRST_USE, _LAST_USE)
    try:
        if wanted.since is not None:
            begin = await _position(connection, queries[0], wanted.since)
            first = max(first, last + 1 if begin is None else begin)
        if wanted.until is not None:
            end = await _position(connection, queries[1], wanted.until)
            last = min(last, end or 0)
    except DataError:
        # An event that can't be read has no time either: then all rows are looked at, and it is reported.
        return first, last
    return first, last


async def _position(connection: Connection, query: LiteralString, time: datetime) -> int | None:
    row = await (await connection.execute(query, (time,))).fetchone()
    return None if row is None else row["position"]


WINDOW = 100_000
"""So many positions the server looks through at once for what is about somebody, in a tenth of a second."""

# What names a licence is an event of something else.
_ABOUT = """
    SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events
    WHERE notification_id > %(after)s AND notification_id <= %(to)s
        AND (originator_id = ANY(%(about)s::uuid[]) OR topic = ANY(%(naming)s))
    ORDER BY notification_id LIMIT %(limit)s
"""
_NAMING = [fact.stored_name for fact in (AnomalyDetected, AnomalyResolved, CustomerErased)]


class LogSource:
    """The messages of one log after a position, in order. `waiting` are those that were read and not taken yet.

    Where it is known whom they shall be `about`, most others are left out. `after` is how far all was looked at.
    """

    def __init__(self, connection: Connection, log: Log, after: int, about: Collection[str] | None = None) -> None:
        self.log = log
        self.after = after
        self._about = None if about is None else list(about)
        self.waiting: deque[Message] = deque()
        self._connection = connection
        self._decode = decoder()
        self._instance: str | None = None
        self._watch = UsageWatch()
        self._may_have_more = True

    async def fill(self) -> None:
        """Read the next messages, if there are any. An event that can't be read is reported and passed over."""
        while True:
            try:
                found = await self._read()
            except UnreadableEvent as error:
                say(f"{error}, and is left out: {error.__cause__}")
                self.after = error.position
            else:
                break
        self._may_have_more = bool(found)
        if found:
            self.after = found[-1].position
            self.waiting.extend(found)

    async def _read(self) -> Sequence[Message]:
        instance = await self._named()
        if instance is None:
            return ()
        if self.log == "events" and self._about is not None:
            return await self._read_about(self._about, instance)
        if self.log == "events":
            return await events_after(self._connection, self.after, BATCH, self._decode, instance)
        if not (self._watch.may_have_news((await ends(self._connection)).usage) or self._may_have_more):
            return ()
        return await usage_after(self._connection, self.after, BATCH, instance)

    async def _read_about(self, about: list[str], instance: str) -> Sequence[Message]:
        end = self.after + WINDOW
        given = {"after": self.after, "to": end, "about": about, "naming": _NAMING, "limit": BATCH}
        rows = await (await self._connection.execute(_ABOUT, given)).fetchall()
        if not rows:
            self.after = end
        return messages_of(rows, self._decode, instance)

    async def _named(self) -> str | None:
        """Return what names this installation. It gets its name with its first start, before its first row."""
        if self._instance is None:
            self._instance = await installation(self._connection)
        return self._instance
