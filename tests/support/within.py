"""Bounds on time that a busy machine does not break: what it held a test up is not what is measured."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.stalls import stalls


@asynccontextmanager
async def within(seconds: float, at_least: float = 0.0) -> AsyncIterator[None]:
    """Fail where the block takes more time, the machine's stalls left out, or less."""
    async with stalls() as stalled:
        began = time.monotonic()
        yield
        taken = time.monotonic() - began
    assert at_least <= taken < seconds + stalled.seconds, (taken, stalled.seconds)
