"""Does the database answer at all, and which of our sessions has it lost? Found out by asking, ten times a second.

A connection can be dead without anybody being told: a frozen server, a proxy or a firewall that swallows packets. No
time limit tells that from a query that takes its time. So who has waited in silence for a moment is asked about, on a
connection by itself: a session that the server calls idle, or knows nothing of, will never answer.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import AsyncConnection

log = logging.getLogger(__name__)

BEAT_SECONDS = 0.1
ANSWER_SECONDS = 0.1
"""How long the server may take to answer before it is asked on a new connection."""
CONNECT_SECONDS = 0.35
"""How long that may take before the database counts as away. All three together are less than a second."""
PATIENT_CONNECT_SECONDS = 2.0
"""The same once it is away: one that thaws answers whoever still waits."""
AGAIN_SECONDS = 0.25
"""How long it may take to answer who asks whether it is still away; and how often it is asked for that at most."""
SILENT_SECONDS = 0.2
"""How long a session is silent before the server is asked about it."""
GRACE_SECONDS = 0.02

# libpq gives no SQLSTATE for a connection that was refused.
_FULL = re.compile("too many (clients|connections)|remaining connection slots")
# A session that waits for its client, while the client waits for it, has lost what was sent either way.
_LOST = """
    SELECT pg_backend_pid() AS own, ARRAY(
        SELECT asked.pid FROM unnest(%s::int[]) AS asked (pid)
        WHERE NOT EXISTS (
            SELECT FROM pg_stat_activity a
            WHERE a.pid = asked.pid AND coalesce(a.state, '') NOT LIKE 'idle%%'
                AND a.wait_event_type IS DISTINCT FROM 'Client'
        )
    ) AS lost
"""
# What it holds, others wait for.
_END = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid = ANY(%s) AND usename = current_user AND application_name LIKE 'lizenzserver%%'
"""


class DatabaseAway(psycopg.OperationalError):
    """The database does not answer now, and is not asked."""


class SessionLost(psycopg.OperationalError):
    """The server will never answer what was asked of it on this connection."""


@dataclass(slots=True)
class _Waiting:
    since: float
    on_lost: Callable[[], None] | None


class Pulse:
    """Asks within `run`. Sessions are named by their backend's process id; threads may use all but `run` and `back`.

    `connect` opens a connection of the services' login, with no role set: it may see and end the login's own sessions.
    """

    def __init__(self, connect: Callable[[], Awaitable[AsyncConnection[Any]]]) -> None:
        self._connect = connect
        self._connection: AsyncConnection[Any] | None = None
        self._waiting: dict[int, _Waiting] = {}
        self._suspected: frozenset[int] = frozenset()
        self._lost: set[int] = set()
        self._answered_at = self._asked_again_at = float("-inf")
        self._asking_again: asyncio.Task[None] | None = None
        self._connecting: set[asyncio.Future[AsyncConnection[Any]]] = set()
        self._back = asyncio.Event()
        self._back.set()
        self._on_away: list[Callable[[], None]] = []
        self._on_back: list[Callable[[], None]] = []
        self._on_lost: list[Callable[[], None]] = []
        self.is_away = self.is_ending = False
        self.lost_sessions = 0

    def when_away(self, tell: Callable[[], None]) -> None:
        """Have `tell` called in the event loop whenever the database is found to be away."""
        self._on_away.append(tell)

    def when_back(self, tell: Callable[[], None]) -> None:
        """Have `tell` called in the event loop whenever the database answers again."""
        self._on_back.append(tell)

    def when_lost(self, tell: Callable[[], None]) -> None:
        """Have `tell` called in the event loop whenever a session is found to be lost: others may be as well."""
        self._on_lost.append(tell)

    async def back(self) -> None:
        """Return when the database answers."""
        await self._back.wait()

    async def is_still_away(self) -> bool:
        """Tell whether it is away now as well: where it was, it is asked on a new connection first.

        Other processes may be heard by it already, and have changed what this one remembers.
        """
        if not self.is_away or self.is_ending:
            return self.is_away
        if self._asking_again is None:
            self._asking_again = asyncio.create_task(self._ask_again(), name="pulse, once more")
        await asyncio.wait([self._asking_again])
        return self.is_away

    def let_go(self) -> None:
        """Keep nobody who waits for it to be back any longer: this process ends."""
        self.is_ending = True
        self._back.set()

    def waits(self, pid: int, on_lost: Callable[[], None] | None = None, *, for_seconds: float = 0.0) -> None:
        """Note that a session is waited for, from now on or for some seconds already.

        Where nothing will ever come, `on_lost` is called in the event loop; without one, ask `has_lost`.
        """
        self._lost.discard(pid)
        self._waiting[pid] = _Waiting(time.monotonic() - for_seconds, on_lost)

    def heard(self, pid: int) -> None:
        """Note that the server has answered a session."""
        self._answered_at = time.monotonic()
        self.forget(pid)

    def forget(self, pid: int) -> None:
        """Note that a session is waited for no longer."""
        self._waiting.pop(pid, None)
        self._lost.discard(pid)

    def has_lost(self, pid: int) -> bool:
        """Tell whether the server will never answer a session that is waited for."""
        return pid in self._lost

    async def run(self) -> None:
        """Ask until cancelled."""
        try:
            while True:
                try:
                    await self._beat()
                except Exception:
                    # Whatever it is, it must not go unnoticed from then on that the database is away.
                    log.exception("the database's pulse was not felt")
                    self._drop()
                await asyncio.sleep(BEAT_SECONDS)
        finally:
            self._drop()

    async def _beat(self) -> None:
        if self._connection is not None:
            try:
                await self._look(self._connection)
            except psycopg.Error as error:
                log.info("the connection that listens for the database's pulse was lost: %s", _first_line(error))
                self._drop()
            else:
                return
        await self._ask_anew(PATIENT_CONNECT_SECONDS if self.is_away else CONNECT_SECONDS)

    async def _ask_again(self) -> None:
        """Ask once the last time is a moment ago. Whoever wants to know until it begins waits for the same answer."""
        await asyncio.sleep(self._asked_again_at + AGAIN_SECONDS - time.monotonic())
        self._asking_again, self._asked_again_at = None, time.monotonic()
        if self.is_away:
            await self._ask_anew(AGAIN_SECONDS)

    async def _ask_anew(self, seconds: float) -> None:
        """Ask by opening a connection, and note what that says of the database."""
        began = time.monotonic()
        reason = "it does not answer"
        try:
            # Where it is only slow, it may have answered others meanwhile.
            answers = await self._begin(seconds) or self._answered_at > began
        except (psycopg.Error, OSError) as error:
            # One that is full does answer, and those who have connections can work.
            answers, reason = _FULL.search(str(error)) is not None, _first_line(error)
        if (answers or self._connection is not None) == self.is_away:
            self._turn(reason)

    def _turn(self, reason: str) -> None:
        self.is_away = not self.is_away
        if self.is_away:
            log.warning("the database is away: %s", reason)
            if not self.is_ending:
                self._back.clear()
        else:
            log.warning("the database is back")
            self._back.set()
            for connecting in self._connecting:
                connecting.cancel()
        for tell in self._on_away if self.is_away else self._on_back:
            tell()

    async def _begin(self, seconds: float) -> bool:
        """Open a connection, and tell whether the server answered in time. Raises psycopg's errors."""
        connecting = asyncio.ensure_future(self._connect())
        self._connecting.add(connecting)
        try:
            await asyncio.wait([connecting], timeout=seconds)
            if not connecting.done():
                # Perhaps this process was held up, and the answer is there.
                await asyncio.wait([connecting], timeout=GRACE_SECONDS)
            if not connecting.done():
                connecting.cancel()
                await asyncio.wait([connecting])
        finally:
            self._connecting.discard(connecting)
            connecting.cancel()
        if connecting.cancelled():
            return False
        if self._connection is None:
            self._connection = connecting.result()
        else:
            # Somebody else has asked at the same time.
            connecting.result().pgconn.finish()
        return True

    async def _look(self, connection: AsyncConnection[Any]) -> None:
        """Ask something, if it is nothing else whether sessions are lost; twice the same answer is believed."""
        oldest = time.monotonic() - SILENT_SECONDS
        silent = [pid for pid, waiting in list(self._waiting.items()) if waiting.since < oldest]
        found = await (await connection.execute(_LOST, (silent,))).fetchone()
        assert found is not None
        # Behind a pooler, the process ids that connections are told are made up.
        suspected = frozenset(found["lost"] if found["own"] == connection.info.backend_pid else ())
        lost, self._suspected = suspected & self._suspected, suspected
        still = [pid for pid in lost if (waiting := self._waiting.get(pid)) is not None and waiting.since < oldest]
        if still:
            self._declare_lost(still)
            await connection.execute(_END, (still,))

    def _declare_lost(self, pids: Iterable[int]) -> None:
        for pid in pids:
            waiting = self._waiting.pop(pid, None)
            if waiting is None:
                continue
            log.warning("session %d is lost: the server does not know that it is waited for", pid)
            self.lost_sessions += 1
            if waiting.on_lost is not None:
                waiting.on_lost()
            else:
                self._lost.add(pid)
        for tell in self._on_lost:
            tell()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self._suspected = frozenset()
        if connection is not None:
            connection.pgconn.finish()


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else repr(error)


@asynccontextmanager
async def beating(pulse: Pulse) -> AsyncIterator[Pulse]:
    """Run a pulse meanwhile."""
    task = asyncio.create_task(pulse.run(), name="pulse")
    try:
        yield pulse
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
