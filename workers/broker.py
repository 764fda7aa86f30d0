"""RabbitMQ: one connection, the exchanges and queues that we use, and publishing that is confirmed.

Nothing here waits for ever, and a lost connection is told apart from a cancellation: the library raises CancelledError
for both.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Self, TypeVar

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aio_pika.connection import make_url
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, PublishError

from workers.messages import CONTENT_TYPE, Message

EXCHANGE = "licenses.events"
UNROUTED = "licenses.unrouted"
DEAD = "licenses.dead"

HEARTBEAT_SECONDS = 5
CONNECT_SECONDS = 3.0
CALL_SECONDS = 5.0
CONFIRM_SECONDS = 4.0
"""How long messages may wait for their confirms: with a renewal's age, less than a lease."""
CLOSE_SECONDS = 1.0
BLOCKED_SECONDS = 2.0
"""How long `publish` waits for an alarm of the server's to end before it says so."""

IN_FLIGHT = 500
UNROUTED_MESSAGES = 100_000
DELIVERIES = 100

# What the library logs of lost connections is raised as well, and logged once by whoever reconnects.
logging.getLogger("aiormq.connection").setLevel(logging.CRITICAL)
logging.getLogger("aiormq.channel").setLevel(logging.ERROR)

_closing: set[asyncio.Task[None]] = set()
"""Connections that take longer to close than anybody waits."""

T = TypeVar("T")

Take = Callable[[AbstractIncomingMessage], Awaitable[None]]


class BrokerAway(Exception):
    """RabbitMQ can't be reached, does not answer in time, refuses, or the connection to it was lost."""


class BrokerBlocked(BrokerAway):
    """RabbitMQ takes nothing for now: its memory or its disk is short. The connection is still good."""


class Unroutable(BrokerAway):
    """A message has reached no queue, or there is no exchange."""


def queue_name(consumer: str) -> str:
    """Return the name of one of our consumers' queues."""
    return f"lizenzserver.{consumer}"


class Broker:
    """One connection and one channel. It is never repaired: where it is lost, make another one."""

    def __init__(self, connection: AbstractConnection, channel: AbstractChannel) -> None:
        self._connection = connection
        self.channel = channel

    @classmethod
    async def connect(cls, url: str, name: str) -> Self:
        """Connect, and declare the exchanges. `name` is shown by RabbitMQ's tools. Raises BrokerAway."""
        # Not by the library's function, which drops a connection that fails unclosed.
        connection = aio_pika.Connection(
            make_url(url, heartbeat=HEARTBEAT_SECONDS), client_properties={"connection_name": name}
        )
        try:
            await bounded(connection.connect(timeout=CONNECT_SECONDS), CONNECT_SECONDS)
            broker = cls(connection, connection.channel(publisher_confirms=True, on_return_raises=True))
            await bounded(broker._open(), CALL_SECONDS)
        except BaseException:
            await _close(connection)
            raise
        return broker

    @property
    def is_lost(self) -> bool:
        """Tell whether the connection has ended, which a publisher with nothing to publish does not notice."""
        return self.channel.is_closed

    async def _open(self) -> None:
        channel = self.channel
        await channel.initialize()
        await channel.declare_exchange(UNROUTED, "fanout", durable=True)
        limit: dict[str, Any] = {"x-queue-type": "quorum", "x-max-length": UNROUTED_MESSAGES, "x-overflow": "drop-head"}
        unrouted = await channel.declare_queue(UNROUTED, durable=True, arguments=limit)
        await unrouted.bind(UNROUTED)
        await channel.declare_exchange(EXCHANGE, "topic", durable=True, arguments={"alternate-exchange": UNROUTED})
        await channel.declare_exchange(DEAD, "direct", durable=True)

    async def declare_queue(self, consumer: str) -> AbstractQueue:
        """Declare the queue of one of our consumers, and its dead-letter queue. Raises BrokerAway."""
        return await bounded(self._declare_queue(queue_name(consumer)), CALL_SECONDS)

    async def _declare_queue(self, name: str) -> AbstractQueue:
        dead = await self.channel.declare_queue(f"{name}.dead", durable=True, arguments={"x-queue-type": "quorum"})
        await dead.bind(DEAD, dead.name)
        arguments: dict[str, Any] = {
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERIES,
            "x-dead-letter-exchange": DEAD,
            "x-dead-letter-routing-key": dead.name,
        }
        queue = await self.channel.declare_queue(name, durable=True, arguments=arguments)
        await queue.bind(EXCHANGE, "#")
        return queue

    async def consume(self, queue: AbstractQueue, prefetch: int, take: Take) -> asyncio.Event:
        """Have `take` called with each message, `prefetch` of them unanswered at most. Raises BrokerAway.

        The event is set when no more will come: the connection was lost, or the queue is gone.
        """
        ended = asyncio.Event()
        channel = await self.channel.get_underlay_channel()
        channel.on_consumer_cancel_callbacks.add(lambda _: ended.set())
        self.channel.close_callbacks.add(lambda *_: ended.set())
        await bounded(self.channel.set_qos(prefetch_count=prefetch), CALL_SECONDS)
        await bounded(queue.consume(take), CALL_SECONDS)
        return ended

    async def publish(self, messages: Sequence[Message], exchange: str = EXCHANGE, key: str | None = None) -> None:
        """Publish, and return when the server has confirmed that it keeps them all. `key` replaces the messages' types.

        Raises BrokerBlocked, Unroutable or BrokerAway; then any part of them may have been published.
        """
        await self._wait_while_blocked()
        # The library's exchange object makes a task a message more; its channel publishes by a third more a second.
        # Its abstract type knows no `wait`, which tells it not to flush after each message.
        channel: Any = await self.channel.get_underlay_channel()
        for start in range(0, len(messages), IN_FLIGHT):
            publishing = asyncio.gather(
                *(
                    channel.basic_publish(
                        message.body,
                        exchange=exchange,
                        routing_key=message.type if key is None else key,
                        properties=_envelope(message).properties,
                        mandatory=True,
                        wait=False,
                    )
                    for message in messages[start : start + IN_FLIGHT]
                ),
                return_exceptions=True,
            )
            try:
                # One timeout for those that are in flight together costs less than one for each.
                async with asyncio.timeout(CONFIRM_SECONDS):
                    outcomes = await publishing
            except TimeoutError as error:
                await self._wait_while_blocked(0.01)
                raise BrokerAway(f"messages were not confirmed within {CONFIRM_SECONDS:g} s") from error
            _check(outcomes)

    async def send_text(self, queue: str, text: str) -> None:
        """Put a text into a queue that there is, and return when the server has confirmed that it keeps it.

        Raises BrokerBlocked, Unroutable or BrokerAway.
        """
        await self._wait_while_blocked()
        message = aio_pika.Message(
            text.encode(), content_type="text/plain", delivery_mode=aio_pika.DeliveryMode.PERSISTENT
        )
        try:
            await bounded(self.channel.default_exchange.publish(message, queue, mandatory=True), CONFIRM_SECONDS)
        except BrokerAway as error:
            if isinstance(error.__cause__, PublishError):
                raise Unroutable(f"there is no queue {queue}") from error
            raise

    async def close(self) -> None:
        """Close the connection. One that does not answer is left to close by itself after a second."""
        await _close(self._connection)

    async def _wait_while_blocked(self, seconds: float = BLOCKED_SECONDS) -> None:
        transport = self._connection.transport
        if transport is None:
            raise BrokerAway("the connection was lost")
        try:
            async with asyncio.timeout(seconds):
                await transport.connection.ready()
        except TimeoutError:
            raise BrokerBlocked("RabbitMQ takes no messages: its memory or its disk is short") from None


async def bounded(call: Coroutine[Any, Any, T], seconds: float) -> T:
    """Await a call of the library. Raises BrokerAway where it fails, takes too long, or the connection is lost."""
    task = asyncio.create_task(call)
    try:
        await asyncio.wait([task], timeout=seconds)
    finally:
        in_time = task.done()
        task.cancel()
    if not in_time:
        raise BrokerAway(f"no answer within {seconds:g} s")
    try:
        return task.result()
    except (asyncio.CancelledError, *CONNECTION_EXCEPTIONS) as error:
        raise BrokerAway(_reason(error)) from error


def _check(outcomes: Sequence[object]) -> None:
    """Raise Unroutable or BrokerAway where publishing has failed."""
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    unroutable = next((error for error in failed if isinstance(error, PublishError)), None)
    if unroutable is not None:
        raise Unroutable("a message has reached no queue") from unroutable
    if failed:
        raise BrokerAway(f"{len(failed)} messages were not confirmed: {_reason(failed[0])}") from failed[0]


async def _close(connection: AbstractConnection) -> None:
    task = asyncio.create_task(connection.close(), name="closing a connection to RabbitMQ")
    _closing.add(task)
    task.add_done_callback(_closed)
    await asyncio.wait([task], timeout=CLOSE_SECONDS)


def _envelope(message: Message) -> aio_pika.Message:
    return aio_pika.Message(
        message.body,
        content_type=CONTENT_TYPE,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=message.id,
        timestamp=message.time,
        type=message.type,
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "the connection was lost"
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _closed(task: asyncio.Task[None]) -> None:
    _closing.discard(task)
    if not task.cancelled():
        # How a connection fails to close interests nobody any more; unread, asyncio would log it.
        task.exception()
