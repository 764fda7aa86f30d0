"""A process that prints line after line, which a test reads as they come."""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

SECONDS = 30.0
"""More than a start, a line or an end takes on a busy machine."""


class Printing:
    """A process within `printing`. What it writes to stderr is in `complaints` after `end`."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.complaints = ""

    async def lines(self, count: int) -> list[str]:
        """Wait for so many more lines; fail where the process ends before."""
        return [await self._line(self._process.stdout) for _ in range(count)]

    async def complaint(self) -> str:
        """Wait for the next line on stderr."""
        return await self._line(self._process.stderr)

    async def _line(self, stream: asyncio.StreamReader | None) -> str:
        assert stream is not None
        async with asyncio.timeout(SECONDS):
            line = await stream.readline()
        assert line, f"it ended: {await self._rest()}"
        return line.decode().rstrip("\n")

    async def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Send a signal, or wait for the process to end by itself; return its code and what else it has printed."""
        if number is not None:
            self._process.send_signal(number)
        rest = await self._rest()
        assert self._process.returncode is not None
        return self._process.returncode, rest

    async def _rest(self) -> str:
        async with asyncio.timeout(SECONDS):
            printed, complaints = await self._process.communicate()
        self.complaints = complaints.decode()
        return printed.decode() or self.complaints

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()


@asynccontextmanager
async def printing(folder: Path, environ: dict[str, str], *arguments: str) -> AsyncIterator[Printing]:
    """Start a program in a folder; it is killed at the end where it still runs."""
    process = await asyncio.create_subprocess_exec(*arguments, cwd=folder, env=environ, stdout=PIPE, stderr=PIPE)
    running = Printing(process)
    try:
        yield running
    finally:
        running.kill()
        await process.communicate()
