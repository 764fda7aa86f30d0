"""Publishes every row of both logs to RabbitMQ, at least once, in order. One relay works, others stand by."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg import AsyncConnection

from workers.broker import Broker, BrokerAway, BrokerBlocked, Unroutable
from workers.lease import Lease
from workers.log_reader import Decode, UnreadableEvent, UsageWatch, ends, events_after, usage_after
from workers.messages import Message

log = logging.getLogger(__name__)

WORKER = "relay"

MOST_ROWS = 1000
"""Rows of each log that are published before the position is saved."""
BUSY_PAUSE_SECONDS = 0.025
IDLE_PAUSE_SECONDS = 0.1
BUSY_SECONDS = 3.0
"""How long after the last message the logs are looked at more often."""
STANDBY_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0

_LONGEST_TROUBLE = 200

State = Literal[
    "starting",
    "standing by",
    "relaying",
    "event unreadable",
    "message unroutable",
    "broker blocked",
    "broker away",
    "database away",
]

_BEGIN = "INSERT INTO consumers (consumer) VALUES (%s) ON CONFLICT DO NOTHING"
_POSITIONS = "SELECT event_position, usage_position FROM consumers WHERE consumer = %s"
# Guarded by the lease, for a relay that was frozen and does not know that another one has taken over; and by where it
# started from, for a position that somebody has set.
_SAVE = """
    UPDATE consumers
    SET event_position = %(events)s, usage_position = %(usage)s, moved_at = clock_timestamp()
    WHERE consumer = %(worker)s AND event_position = %(old_events)s AND usage_position = %(old_usage)s
        AND EXISTS (SELECT FROM leases WHERE worker = %(worker)s AND holder = %(holder)s)
"""


@dataclass(frozen=True, slots=True)
class Positions:
    """Up to where the logs are published."""

    events: int
    usage: int

    def after(self, messages: list[Message]) -> Positions:
        """Return the positions once these, in the order of each log, are published."""
        last = {"events": self.events, "usage": self.usage}
        last.update({message.log: message.position for message in messages})
        return Positions(last["events"], last["usage"])


class Relay:
    """Owns a connection to PostgreSQL, whose rows are dicts, and one to RabbitMQ; repairs both.

    `state` and `reason` say what it does and, where that is not relaying, why; `published` counts confirmed messages.
    `instance` is the fingerprint that names this installation in its messages.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[AsyncConnection[Any]]],
        amqp_url: str,
        decode: Decode,
        instance: str,
    ) -> None:
        self._connect = connect
        self._amqp_url = amqp_url
        self._decode = decode
        self._instance = instance
        self._lease = Lease(WORKER)
        self._connection: AsyncConnection[Any] | None = None
        self._broker: Broker | None = None
        self._positions: Positions | None = None
        self._watch = UsageWatch()
        self._more_usage = False
        self._limit = MOST_ROWS
        self._pause = FIRST_PAUSE_SECONDS
        self._busy_until = 0.0
        self.state: State = "starting"
        self.reason = ""
        self.published = 0

    async def run(self) -> None:
        """Relay until cancelled."""
        try:
            while True:
                pause = await self._turn()
                await asyncio.sleep(pause)
        finally:
            await self._close()

    async def _turn(self) -> float:
        """Do what can be done now; return for how many seconds to pause."""
        try:
            pause = await self._relay_next()
        except BrokerBlocked as error:
            # The connection is kept: what was sent on it waits in it, and would be sent again on another.
            return self._wait("broker blocked", error)
        except BrokerAway as error:
            await self._drop_broker()
            # Perhaps there were too many for the time that they had.
            self._limit = max(1, self._limit // 2)
            return self._wait("message unroutable" if isinstance(error, Unroutable) else "broker away", error)
        except (psycopg.Error, OSError) as error:
            await self._drop_connection()
            return self._wait("database away", error)
        self._pause = FIRST_PAUSE_SECONDS
        return pause

    async def _relay_next(self) -> float:
        if self._connection is None or self._connection.closed:
            self._positions = None
            self._connection = await self._connect()
        connection = self._connection
        trouble = f"{self.state}: {self.reason}"[:_LONGEST_TROUBLE] if self.reason else ""
        if not await self._lease.hold(connection, trouble):
            self._positions = None
            self._say("standing by")
            await self._drop_broker()
            return STANDBY_SECONDS
        if self._positions is None:
            self._positions = await _read_positions(connection)
        if self._broker is None:
            # Also where there is nothing to publish: the exchanges are what others bind their queues to.
            self._broker = await Broker.connect(self._amqp_url, f"lizenzserver {WORKER}")
        if self._broker.is_lost:
            raise BrokerAway("the connection was lost")
        messages, unreadable = await self._next_messages(connection, self._positions)
        if messages:
            await self._broker.publish(messages)
            self.published += len(messages)
            self._positions = await self._save(connection, self._positions, self._positions.after(messages))
            self._limit = min(MOST_ROWS, self._limit * 2)
            self._busy_until = time.monotonic() + BUSY_SECONDS
        self._say("event unreadable" if unreadable else "relaying", unreadable)
        if len(messages) >= self._limit:
            return 0.0
        return BUSY_PAUSE_SECONDS if time.monotonic() < self._busy_until else IDLE_PAUSE_SECONDS

    async def _next_messages(
        self, connection: AsyncConnection[Any], after: Positions
    ) -> tuple[list[Message], UnreadableEvent | None]:
        """Return what follows in both logs. An event that can't be read holds up the event log, not the usage log."""
        last = await ends(connection)
        messages: list[Message] = []
        unreadable = None
        if last.events > after.events:
            try:
                messages += await events_after(connection, after.events, self._limit, self._decode, self._instance)
            except UnreadableEvent as error:
                unreadable = error
        if self._watch.may_have_news(last.usage) or self._more_usage:
            usage = await usage_after(connection, after.usage, self._limit, self._instance)
            self._more_usage = bool(usage)
            messages += usage
        return messages, unreadable

    async def _save(self, connection: AsyncConnection[Any], old: Positions, new: Positions) -> Positions | None:
        """Save the positions; None where that was not ours to do, so that they must be read again."""
        values = {
            "worker": WORKER,
            "holder": self._lease.holder,
            "events": new.events,
            "usage": new.usage,
            "old_events": old.events,
            "old_usage": old.usage,
        }
        saved = (await connection.execute(_SAVE, values)).rowcount == 1
        return new if saved else None

    def _say(self, state: State, reason: BaseException | None = None) -> None:
        """Note what is going on, and log it where it is something else than before."""
        if state == self.state:
            return
        self.state, self.reason = state, _first_line(reason)
        level = logging.INFO if reason is None else logging.WARNING
        if state in {"message unroutable", "event unreadable"}:
            level = logging.ERROR
        log.log(level, "relay: %s%s", state, f": {self.reason}" if reason else "")

    def _wait(self, state: State, reason: BaseException) -> float:
        self._say(state, reason)
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE_SECONDS)
        return pause

    async def _drop_broker(self) -> None:
        broker, self._broker = self._broker, None
        if broker is not None:
            await broker.close()

    async def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _close(self) -> None:
        await self._drop_broker()
        if self._connection is not None and not self._connection.closed:
            try:
                await self._lease.give_up(self._connection)
            except psycopg.Error as error:
                log.info("the relay's lease runs out by itself: %s", _first_line(error))
        await self._drop_connection()


async def _read_positions(connection: AsyncConnection[Any]) -> Positions:
    await connection.execute(_BEGIN, (WORKER,))
    row = await (await connection.execute(_POSITIONS, (WORKER,))).fetchone()
    assert row is not None
    return Positions(row["event_position"], row["usage_position"])


def _first_line(error: BaseException | None) -> str:
    if error is None:
        return ""
    return str(error).splitlines()[0] if str(error) else repr(error)
