"""What tells a worker when to look at the logs: the clock, or word from its queue."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from aio_pika.abc import AbstractIncomingMessage

from workers.broker import CALL_SECONDS, Broker, BrokerAway, bounded, queue_name
from workers.messages import NotOurs, Word, parse

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1
PREFETCH = 1000
GATHER_SECONDS = 0.01
"""How long after the first word more is waited for: a burst needs one look."""
FORGED_SECONDS = 5.0
"""How long before a look a message must have come to be refused for what that look did not find."""
REFUSALS_LOGGED_EVERY_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0


class Feed(Protocol):
    """Tells a worker when to look, and is told how far it has come."""

    async def wait(self, timeout_seconds: float) -> None:
        """Return when something may be new, or when the time is over."""

    async def settle(self, event_position: int, usage_position: int, *, caught_up: bool) -> None:
        """Note that all up to these positions is applied, and, where caught up, that there was nothing beyond them."""

    async def close(self) -> None:
        """End it, and what it holds."""


class ClockFeed:
    """Says ten times a second that something may be new."""

    async def wait(self, timeout_seconds: float) -> None:
        """Return a tenth of a second later."""
        await asyncio.sleep(min(timeout_seconds, LOOK_SECONDS))

    async def settle(self, event_position: int, usage_position: int, *, caught_up: bool) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class _Pending:
    message: AbstractIncomingMessage
    word: Word
    came_at: float


class QueueFeed:
    """Takes word from a consumer's queue. Made within a running event loop, whose task keeps it connected.

    A message is acked once its row is applied, so that the queue's length shows the lag. One that is not ours, or of a
    row that is not there, goes to the dead-letter queue. `acked` and `refused` count them. `instance` is the
    fingerprint that names this installation. While RabbitMQ is away, `wait` runs into its timeout.
    """

    def __init__(self, amqp_url: str, consumer: str, instance: str) -> None:
        self._amqp_url = amqp_url
        self._consumer = consumer
        self._instance = instance
        self._word_came = asyncio.Event()
        self._pending: list[_Pending] = []
        self._looked_at = time.monotonic()
        self._pause = FIRST_PAUSE_SECONDS
        self._away = False
        self._refusal_logged_at = -REFUSALS_LOGGED_EVERY_SECONDS
        self.connected = False
        self.acked = 0
        self.refused = 0
        self._task = asyncio.create_task(self._run(), name=f"word for {consumer}")

    async def wait(self, timeout_seconds: float) -> None:
        """Return shortly after word came, or when the time is over."""
        if self._task.done():
            # It ends by itself only where this program is wrong.
            self._task.result()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._word_came.wait()
                await asyncio.sleep(GATHER_SECONDS)
        self._word_came.clear()
        self._looked_at = time.monotonic()

    async def settle(self, event_position: int, usage_position: int, *, caught_up: bool) -> None:
        """Ack what is applied; where the worker has caught up, refuse what is of no row that exists."""
        applied = {"events": event_position, "usage": usage_position}
        # The look began when the last wait or settling ended: what has come since may be of a row that is newer.
        oldest = self._looked_at - FORGED_SECONDS
        done = [one for one in self._pending if one.word.position <= applied[one.word.log]]
        rest = [one for one in self._pending if one.word.position > applied[one.word.log]]
        forged = [one for one in rest if caught_up and one.came_at < oldest]
        self._pending = [one for one in rest if not (caught_up and one.came_at < oldest)]
        try:
            await bounded(self._answer(done, forged, rest), CALL_SECONDS)
        except BrokerAway as error:
            # They will be delivered again.
            log.info("acks for %s were lost: %s", self._consumer, error)
        self._looked_at = time.monotonic()

    async def close(self) -> None:
        """End the connection; what is not acked stays in the queue."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _answer(self, done: list[_Pending], forged: list[_Pending], rest: list[_Pending]) -> None:
        first_left = min((_tag(one) for one in rest), default=None)
        run = [one for one in done if first_left is None or _tag(one) < first_left]
        if run:
            # One frame for all: whatever came before has been answered.
            await run[-1].message.ack(multiple=True)
        for one in done[len(run) :]:
            await one.message.ack()
        self.acked += len(done)
        for one in forged:
            await self._refuse(one.message, f"{one.word.log} has no position {one.word.position}")

    async def _run(self) -> None:
        while True:
            try:
                await self._consume()
            except BrokerAway as error:
                if not self._away:
                    log.warning("no word for %s comes from RabbitMQ: %s", self._consumer, error)
                self._away = True
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)

    async def _consume(self) -> None:
        """Take messages until the connection or the queue is lost. Always raises BrokerAway in the end."""
        broker = await Broker.connect(self._amqp_url, queue_name(self._consumer))
        try:
            ended = await broker.consume(await broker.declare_queue(self._consumer), PREFETCH, self._take)
            self._pause, self._away, self.connected = FIRST_PAUSE_SECONDS, False, True
            log.info("word for %s comes from RabbitMQ", self._consumer)
            await ended.wait()
            raise BrokerAway("the connection was lost")
        finally:
            self.connected = False
            self._pending.clear()
            await broker.close()

    async def _take(self, message: AbstractIncomingMessage) -> None:
        try:
            word = parse(message.body, self._instance)
        except NotOurs as error:
            with suppress(BrokerAway):
                # Where that fails, it will be delivered again.
                await bounded(self._refuse(message, str(error)), CALL_SECONDS)
            return
        self._pending.append(_Pending(message, word, time.monotonic()))
        self._word_came.set()

    async def _refuse(self, message: AbstractIncomingMessage, reason: str) -> None:
        await message.reject(requeue=False)
        self.refused += 1
        now = time.monotonic()
        if now - self._refusal_logged_at >= REFUSALS_LOGGED_EVERY_SECONDS:
            self._refusal_logged_at = now
            log.error("%s refused a message, %d so far: %s", queue_name(self._consumer), self.refused, reason)


def _tag(one: _Pending) -> int:
    return one.message.delivery_tag or 0
