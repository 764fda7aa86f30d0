"""Publishing rows of a log again, into one queue."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from aio_pika.exceptions import ChannelNotFoundEntity

from cli.errors import Failure
from cli.log_messages import LogSource, Wanted, last_position, narrowed, reading
from cli.output import progress, working
from infra.postgres import Database
from projections.projection import Log
from workers.broker import CALL_SECONDS, Broker, BrokerAway, Unroutable, bounded
from workers.messages import Message

Deliver = Callable[[list[Message]], Awaitable[None]]
"""Takes a batch of messages, and returns when they are where they should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which rows of a log: those at positions `first` to `last`, both included (None: to its end), that are wanted."""

    log: Log
    first: int
    last: int | None
    wanted: Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay(Part):
    """What to publish to which queue."""

    queue: str


@dataclass(slots=True)
class Sent:
    """How far a replay has come: how many messages were delivered, and up to which position all is sent."""

    count: int = 0
    position: int = 0


async def replay(url: str, database: Database, asked: Replay, sent: Sent) -> None:
    """Publish, in order, and note in `sent` what was confirmed. Raises Failure where the broker or the queue fails."""
    # What goes wrong is said in one line; the library would log it as well, and asyncio each write that fails.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    try:
        broker = await Broker.connect(url, "lizenzserver replay")
        try:
            await _check_queue(broker, asked.queue)
            await walk(database, asked, sent, partial(broker.publish, exchange="", key=asked.queue))
        finally:
            await broker.close()
    except Unroutable as error:
        raise Failure(f"the queue {asked.queue} is not there any more; {resume(asked, sent)}") from error
    except BrokerAway as error:
        raise Failure(f"RabbitMQ: {error}; {resume(asked, sent)}") from error


def resume(asked: Replay, sent: Sent) -> str:
    """Say what is sent for certain, and how to go on."""
    if asked.wanted.since is not None and sent.position == 0:
        return "0 messages confirmed"  # Where the wanted time begins in the log was not known yet.
    return f"{_counted(sent.count)} confirmed; go on with --from {max(asked.first, sent.position + 1)}"


def summary(asked: Replay, sent: Sent) -> str:
    """Say what was sent, after the end."""
    return f"{_counted(sent.count)} sent to {asked.queue}, up to position {sent.position} of the {asked.log} log"


def _counted(count: int) -> str:
    return f"{count} message{'s' if count != 1 else ''}"


async def _check_queue(broker: Broker, queue: str) -> None:
    try:
        await bounded(broker.channel.declare_queue(queue, passive=True), CALL_SECONDS)
    except BrokerAway as error:
        if isinstance(error.__cause__, ChannelNotFoundEntity):
            raise Failure(f"there is no queue {queue} on the broker: whoever reads it declares it") from error
        raise


async def walk(database: Database, asked: Part, sent: Sent, deliver: Deliver) -> None:
    """Deliver what is asked for in order, a batch at a time, and note in `sent` how far that has come."""
    async with reading(database, "replay") as connection:
        end = await last_position(connection, asked.log)
        last = end if asked.last is None else min(asked.last, end)
        with working("Looking for the first one"):
            first, last = await narrowed(connection, asked.log, asked.first, last, asked.wanted)
        sent.position = min(first - 1, end)  # It may begin beyond the end: then that is how far all is sent.
        source = LogSource(connection, asked.log, sent.position, asked.wanted.about)
        with progress("Replaying", max(0, last - sent.position)) as advance:
            while sent.position < last:
                before = source.after
                await source.fill()
                reached = min(source.after, last) if source.after > before else last
                messages = [one for one in source.waiting if one.position <= last and one in asked.wanted]
                source.waiting.clear()
                await deliver(messages)
                advance(reached - sent.position)
                sent.count, sent.position = sent.count + len(messages), reached
