"""How long this machine, busy with other things, held a test up: what is measured meanwhile took that much longer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

TICK_SECONDS = 0.01


class Stalls:
    """The sum of what each hundredth of a second was too long, so far."""

    seconds = 0.0

    async def watch(self) -> None:
        """Count until cancelled."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(TICK_SECONDS)
            self.seconds += max(0.0, time.monotonic() - began - 2 * TICK_SECONDS)


@asynccontextmanager
async def stalls() -> AsyncIterator[Stalls]:
    """Count meanwhile."""
    counting = Stalls()
    task = asyncio.create_task(counting.watch())
    try:
        yield counting
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
