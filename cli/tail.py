"""Printing the logs' rows as they come."""

from __future__ import annotations

import asyncio
import select
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal

from cli.log_messages import Connection, LogSource, Wanted, last_position, reading
from cli.output import forget_stdout
from infra.postgres import Database
from projections.projection import Log
from workers.messages import Message

LOOK_SECONDS = 0.1

Start = int | Literal["begin", "end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """What to print: of which logs, each from where, which of their rows, how many, and whether to wait for more."""

    starts: dict[Log, Start]
    wanted: Wanted
    limit: int | None
    follow: bool


async def tail(database: Database, asked: Tail) -> None:
    """Print until there is no more to print, or nobody reads any more. Raises psycopg's errors."""
    async with reading(database, "tail") as connection:
        sources = [LogSource(connection, log, await _after(connection, log, at)) for log, at in asked.starts.items()]
        try:
            await _print(sources, asked)
        except BrokenPipeError:
            forget_stdout()


async def _after(connection: Connection, log: Log, start: Start) -> int:
    if start == "end":
        return await last_position(connection, log)
    return 0 if start == "begin" else start - 1


async def _print(sources: Sequence[LogSource], asked: Tail) -> None:
    left = asked.limit
    while True:
        try:
            async for message in _all_there_is(sources):
                if message in asked.wanted:
                    sys.stdout.buffer.write(message.body + b"\n")
                    left = None if left is None else left - 1
                    if left == 0:
                        return
        finally:
            sys.stdout.buffer.flush()
        if not asked.follow or _nobody_reads():
            return
        await asyncio.sleep(LOOK_SECONDS)


async def _all_there_is(sources: Sequence[LogSource]) -> AsyncIterator[Message]:
    """Give all rows that there are now, each log's in its order, and between the logs the older one first."""
    going_on = list(sources)
    while True:
        for source in going_on:
            if not source.waiting:
                await source.fill()
        going_on = [source for source in going_on if source.waiting]
        if not going_on:
            return
        yield min(going_on, key=lambda source: source.waiting[0].time).waiting.popleft()


def _nobody_reads() -> bool:
    """Tell whether stdout is a pipe or terminal whose other end was closed, which else only the next row would show."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))
