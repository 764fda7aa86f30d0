"""Reads that wait at the same moment share one query: the round trip costs far more than a row does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

import psycopg

from infra.clock import Clock
from infra.postgres import POOL_WAIT_SECONDS

Key = TypeVar("Key")
Found = TypeVar("Found")

Query: TypeAlias = Callable[[Any, Sequence[Key], float], Awaitable[list[Found | None]]]
"""Returns what each key stands for, on a connection, at a monotonic second."""


class SharedReads(Generic[Key, Found]):
    """Gathers keys until there is a connection for them. `pool` gives connections.

    A key is read after it was asked for, so that what was committed before is in what is found. While one query is
    under way others may begin, as many as the pool has connections.
    """

    def __init__(self, pool: Any, clock: Clock, query: Query[Key, Found]) -> None:
        self._pool = pool
        self._clock = clock
        self._query = query
        self._gathering: list[tuple[Key, asyncio.Future[Found | None]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def read(self, key: Key) -> asyncio.Future[Found | None]:
        """Return what a key stands for as the database has it now. Raises what the pool and the query raise."""
        future: asyncio.Future[Found | None] = asyncio.get_running_loop().create_future()
        self._gathering.append((key, future))
        if len(self._gathering) == 1:
            # It begins in the loop's next turn: who asks within this one comes along.
            task = asyncio.create_task(self._carry_out())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return future

    async def _carry_out(self) -> None:
        asked: list[tuple[Key, asyncio.Future[Found | None]]] = []
        try:
            found = await self._found(asked)
        except Exception as error:  # noqa: BLE001 - whoever waits raises it
            for _, future in asked or self._gathered():
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), one in zip(asked, found, strict=True):
                if not future.done():
                    future.set_result(one)

    async def _found(self, asked: list[tuple[Key, asyncio.Future[Found | None]]]) -> list[Found | None]:
        """Read what has gathered until there is a connection, and put it into `asked`.

        After a restart of the server each connection in the pool is found broken once; the pool puts new ones in place.
        A server that hangs says nothing for long, and is not asked again.
        """
        until = self._clock.monotonic() + POOL_WAIT_SECONDS
        while True:
            async with self._pool.connection() as connection:
                if not asked:
                    asked += self._gathered()
                try:
                    return await self._query(connection, [key for key, _ in asked], self._clock.monotonic())
                except psycopg.OperationalError:
                    if not connection.closed or self._clock.monotonic() > until:
                        raise

    def _gathered(self) -> list[tuple[Key, asyncio.Future[Found | None]]]:
        gathered, self._gathering = self._gathering, []
        return gathered
