"""How long this machine, busy with other things, held a test up: what is measured meanwhile took that much longer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psycopg

from tests.support.process_tree import process_tree

TICK_SECONDS = 0.01
NOTICED_SECONDS = 0.1
"""Held up for so long, what goes by times of a tenth of a second may go otherwise."""
ATTEMPTS = 5


class Stalls:
    """Counts what each hundredth of a second was too long; and how long `roots`, processes, waited for a core.

    Where the whole machine stands still, the first tells; where others take its cores, those who compute feel it. Of a
    process and all that come from it, the thread counts that waited longest.
    """

    def __init__(self, roots: tuple[int, ...] = ()) -> None:
        self._roots = roots
        self._late = 0.0
        self._before = self._waited()

    @property
    def seconds(self) -> float:
        """The sum so far."""
        longest = dict.fromkeys(self._roots, 0.0)
        for (root, thread), now in self._waited().items():
            longest[root] = max(longest[root], now - self._before.get((root, thread), 0.0))
        return self._late + sum(longest.values())

    async def watch(self) -> None:
        """Count until cancelled."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(TICK_SECONDS)
            self._late += max(0.0, time.monotonic() - began - 2 * TICK_SECONDS)

    def _waited(self) -> dict[tuple[int, str], float]:
        """Return for each thread of each root's processes for how long it could have run, while others did."""
        found: dict[tuple[int, str], float] = {}
        for root, pid in ((one, pid) for one in self._roots for pid in process_tree(one)):
            with suppress(OSError):
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    with suppress(OSError):
                        found[root, thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
        return found


@asynccontextmanager
async def stalls(*roots: int) -> AsyncIterator[Stalls]:
    """Count meanwhile. `roots` are processes that work for the test, with all that come from them."""
    counting = Stalls(roots)
    task = asyncio.create_task(counting.watch())
    await asyncio.sleep(0)  # it begins to count
    try:
        yield counting
    finally:
        # What was held up at the very end is counted with the tick that it was in.
        await asyncio.sleep(2 * TICK_SECONDS)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def undisturbed(attempt: Callable[[], Awaitable[None]], *roots: int) -> None:
    """Carry out what is right only on a machine that does not stand still: where it fails and that did, once more.

    Where it fails and the machine was at hand, it has failed; so has what fails each time.
    """
    for _ in range(ATTEMPTS - 1):
        async with stalls(*roots) as machine:
            try:
                return await attempt()
            except (AssertionError, psycopg.Error, OSError):
                if machine.seconds < NOTICED_SECONDS:
                    raise
    return await attempt()
