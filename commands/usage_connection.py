"""One round of the usage log in one message to the server: what changed, the lock, the COPY, and the commit.

A round through the driver's cursors takes four round trips and 300 µs of the event loop; through a thread, each of
them waits for the interpreter's lock besides. Said as one simple query (an implicit transaction of its own) it takes
one message, and two waits that hold up nobody. Measured: three times the validations a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar
from uuid import UUID

from psycopg import AsyncConnection, OperationalError, pq
from psycopg.errors import error_from_result
from psycopg.pq.abc import PGresult

from commands.usage_row import COLUMNS

USAGE_LOCK = 0x6C697A_757367
"""Key of the advisory lock that makes ids commit order ('liz', 'usg'): a reader that pages by id skips nothing."""

_COPY = f"COPY usage ({', '.join(COLUMNS)}) FROM STDIN"

_LOCK = f"SELECT pg_advisory_xact_lock({USAGE_LOCK})"

Change = tuple[int, UUID, bool]
"""Position of an event, its aggregate, and whether it erased that."""

Result = TypeVar("Result")


class Sessions(Protocol):
    """Finds out which sessions the server will never answer, and whether it answers at all; see infra.pulse."""

    is_away: bool

    def waits(self, pid: int, on_lost: Callable[[], None] | None = None) -> None:
        """Note that a session is waited for from now on; `on_lost` is called in the event loop where it never comes."""

    def heard(self, pid: int) -> None:
        """Note that the server has answered a session."""

    def forget(self, pid: int) -> None:
        """Note that a session is waited for no longer."""


class UsageConnection:
    """Owns a connection of the service's role, and drives it by hand. One round at a time.

    With `sessions` it is closed when the server will never answer; without, it waits as long as it takes.
    """

    def __init__(self, connection: AsyncConnection[Any], sessions: Sessions | None = None) -> None:
        self._connection = connection
        self._sessions = sessions
        self._pid = connection.pgconn.backend_pid
        self._wire = connection.pgconn
        self._wire.nonblocking = 1
        self._loop = asyncio.get_running_loop()
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        # libpq forgets its socket when the connection is lost.
        self._socket = self._wire.socket
        self._loop.add_reader(self._socket, self._on_readable)
        self._is_heard_by_loop = True

    @property
    def is_open(self) -> bool:
        """Tell whether the connection can be used."""
        return self._wire.status == pq.ConnStatus.OK

    async def close(self) -> None:
        """Close the connection; what is under way on it is lost."""
        self._forget()
        self._leave_loop()
        await self._connection.close()

    async def look(self, changes_query: str) -> list[Change]:
        """Read what changed, and store nothing. `changes_query` selects what a Change has."""
        await self._send(changes_query)
        changes = _changes(await self._result())
        await self._drain()
        return changes

    async def store(
        self, changes_query: str, lines: Callable[[list[Change]], list[bytes]], writer_id: UUID, number: int
    ) -> None:
        """Read what changed, and store the lines that `lines` gives when it knows, as the writer's round `number`.

        Raises psycopg's errors: nothing was stored then, or, where the connection is not open any more, nobody knows
        until `has_stored` is asked on another one.
        """
        note = (
            f"INSERT INTO usage_writers VALUES ('{writer_id}', {number}) ON CONFLICT (writer_id)"  # noqa: S608
            " DO UPDATE SET last_round = excluded.last_round, stored_at = excluded.stored_at"
        )
        await self._send(f"{changes_query}; {_LOCK}; {note}; {_COPY}")
        kept = lines(_changes(await self._result()))
        for _ in (_LOCK, note):
            await self._result()
        copying = await self._result()
        assert copying.status == pq.ExecStatus.COPY_IN
        self._told(self._wire.put_copy_data, b"".join(kept))
        self._told(self._wire.put_copy_end)
        await self._flush()
        await self._result()
        await self._drain()

    async def has_stored(self, writer_id: UUID, number: int) -> bool:
        """Tell whether a round is stored. Reading under the lock waits for a lost session that may still commit."""
        await self._send(f"{_LOCK}; SELECT last_round FROM usage_writers WHERE writer_id = '{writer_id}'")  # noqa: S608
        await self._result()
        found = await self._result()
        last_round = found.get_value(0, 0) if found.ntuples else None
        await self._drain()
        return last_round is not None and int(last_round) >= number

    async def _send(self, query: str) -> None:
        self._told(self._wire.send_query, query.encode())
        await self._flush()

    async def _result(self) -> PGresult:
        """Wait for the next result. Raises psycopg's error where it is one, once the connection is idle again."""
        result = await self._next()
        if result is None:
            raise OperationalError("the server ended a round early")
        if result.status in (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE):
            await self._drain()
            raise error_from_result(result)
        return result

    async def _drain(self) -> None:
        while await self._next() is not None:
            pass

    async def _next(self) -> PGresult | None:
        while self._told(self._wire.is_busy):
            self._readable.clear()
            await self._waited(self._readable)
        return self._told(self._wire.get_result)

    async def _waited(self, event: asyncio.Event) -> None:
        if self._sessions is not None:
            self._sessions.waits(self._pid, self._lose)
        await event.wait()
        if self._sessions is not None and self.is_open and event is self._readable:
            self._sessions.heard(self._pid)
        self._forget()
        if not self.is_open:
            raise OperationalError("the connection to the server was lost")

    def _forget(self) -> None:
        if self._sessions is not None:
            self._sessions.forget(self._pid)

    def _lose(self) -> None:
        """Close the connection under whoever waits for it."""
        self._leave_loop()
        self._wire.finish()
        self._readable.set()
        self._writable.set()

    def _told(self, tell: Callable[..., Result], *what: Any) -> Result:
        """Tell libpq something. By whatever it is told it may find the connection lost, and close the socket."""
        try:
            return tell(*what)
        finally:
            if not self.is_open:
                self._leave_loop()

    def _leave_loop(self) -> None:
        """Have the loop forget the socket before anybody else can be given its number."""
        if self._is_heard_by_loop:
            self._is_heard_by_loop = False
            # While one of two is removed, asyncio has the kernel look at the socket, which is closed by now.
            with suppress(OSError):
                self._loop.remove_writer(self._socket)
            with suppress(OSError):
                self._loop.remove_reader(self._socket)

    def _on_readable(self) -> None:
        with suppress(OperationalError):
            self._told(self._wire.consume_input)
        self._readable.set()
        if not self.is_open:
            # Nor will it ever take what is to be written.
            self._writable.set()

    async def _flush(self) -> None:
        while self._told(self._wire.flush):
            self._writable.clear()
            self._loop.add_writer(self._socket, self._writable.set)
            try:
                await self._waited(self._writable)
            finally:
                if self._is_heard_by_loop:
                    self._loop.remove_writer(self._socket)


def _changes(result: PGresult) -> list[Change]:
    changes: list[Change] = []
    for row in range(result.ntuples):
        position, aggregate_id = result.get_value(row, 0), result.get_value(row, 1)
        assert position is not None
        assert aggregate_id is not None
        changes.append((int(position), UUID(aggregate_id.decode()), result.get_value(row, 2) == b"t"))
    return changes
