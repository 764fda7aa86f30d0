"""One round of the usage log in one message to the server: what changed, the lock, the COPY, and the commit.

A round through the driver's cursors takes four round trips and 300 µs of the event loop; through a thread, each of
them waits for the interpreter's lock besides. Said as one simple query (an implicit transaction of its own) it takes
one message, and two waits that hold up nobody. Measured: three times the validations a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection, OperationalError, pq
from psycopg.errors import error_from_result
from psycopg.pq.abc import PGresult

from commands.usage_row import COLUMNS

USAGE_LOCK = 0x6C697A_757367
"""Key of the advisory lock that makes ids commit order ('liz', 'usg'): a reader that pages by id skips nothing."""

_STORE = f"SELECT pg_advisory_xact_lock({USAGE_LOCK}); COPY usage ({', '.join(COLUMNS)}) FROM STDIN"  # noqa: S608

Change = tuple[int, UUID]
"""Position of an event, and its aggregate."""


class UsageConnection:
    """Owns a connection of the service's role, and drives it by hand. One round at a time."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection
        self._wire = connection.pgconn
        self._wire.nonblocking = 1
        self._loop = asyncio.get_running_loop()
        self._readable = asyncio.Event()
        self._loop.add_reader(self._wire.socket, self._on_readable)

    @property
    def is_open(self) -> bool:
        """Tell whether the connection can be used."""
        return self._wire.status == pq.ConnStatus.OK

    async def close(self) -> None:
        """Close the connection; what is under way on it is lost."""
        if self._wire.status == pq.ConnStatus.OK:
            self._loop.remove_reader(self._wire.socket)
        await self._connection.close()

    async def round(
        self, changes_query: str, lines: Callable[[list[Change]], list[bytes]], *, store: bool
    ) -> list[bytes]:
        """Read what changed, and store the lines that `lines` still gives when it knows; return those lines.

        `changes_query` selects (position, aggregate id). Without `store` nothing is stored. Raises psycopg's errors;
        the lines are stored all or not at all, and after OperationalError with a closed connection nobody knows.
        """
        self._wire.send_query(f"{changes_query}; {_STORE}".encode() if store else changes_query.encode())
        await self._flush()
        changes = await self._result()
        kept = lines(_changes(changes))
        if store:
            await self._result()
            copying = await self._result()
            assert copying.status == pq.ExecStatus.COPY_IN
            self._wire.put_copy_data(b"".join(kept))
            self._wire.put_copy_end()
            await self._flush()
            await self._result()
        await self._drain()
        return kept

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
        while self._wire.is_busy():
            self._readable.clear()
            await self._readable.wait()
            if self._wire.status != pq.ConnStatus.OK:
                raise OperationalError("the connection to the server was lost")
        return self._wire.get_result()

    def _on_readable(self) -> None:
        try:
            self._wire.consume_input()
        except OperationalError:
            self._loop.remove_reader(self._wire.socket)
        self._readable.set()

    async def _flush(self) -> None:
        while self._wire.flush():
            writable = asyncio.Event()
            self._loop.add_writer(self._wire.socket, writable.set)
            try:
                await writable.wait()
            finally:
                self._loop.remove_writer(self._wire.socket)


def _changes(result: PGresult) -> list[Change]:
    changes: list[Change] = []
    for row in range(result.ntuples):
        position, aggregate_id = result.get_value(row, 0), result.get_value(row, 1)
        assert position is not None
        assert aggregate_id is not None
        changes.append((int(position), UUID(aggregate_id.decode())))
    return changes
