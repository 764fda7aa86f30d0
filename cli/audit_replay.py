"""Writing rows of a log as lines of JSON, to a file or to stdout."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cli.output import forget_stdout
from cli.private_file import draft_of
from cli.replay import Part, Sent, walk
from infra.postgres import Database
from workers.messages import Message


def write(database: Database, asked: Part, sent: Sent, path: Path | None) -> None:
    """Write a message a line, and note in `sent` how far that has come; to stdout where there is no path.

    A file takes its place when it is complete. Raises Failure and OSError for a file, and psycopg's errors.
    """
    with _opened(path) as file:

        async def deliver(messages: list[Message]) -> None:
            file.writelines(message.body + b"\n" for message in messages)

        asyncio.run(walk(database, asked, sent, deliver))


@contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    if path is not None:
        with draft_of(path) as draft, draft.open("wb") as file:
            yield file
        return
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        forget_stdout()
