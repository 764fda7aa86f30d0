"""Asking the log itself, when the usage log could not say in time whether something has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

import psycopg
from psycopg_pool import PoolTimeout, TooManyRequests

from api.services import Services
from infra.pulse import DatabaseAway
from projections.log_watch import any_changed

LATE_SECONDS = 1.0
"""How long a request may wait for the log's own answer before it goes by what was read."""


async def still_holds(services: Services, checks: Sequence[tuple[UUID, int]]) -> bool:
    """Tell whether none of the aggregates has an event after the position at which it was read.

    A usage log that is slow, or blocked by another session, is no reason to let through what was ended. Where the
    database is away, and is asked anew in vain, what was read at most five minutes ago is taken to hold, and that is
    counted.
    """
    if not await services.pulse.is_still_away():
        asking = asyncio.create_task(_any_changed(services, checks))
        # No asyncio.timeout: a query that is cancelled waits on for the server, and a server that hangs says nothing.
        await asyncio.wait([asking], timeout=LATE_SECONDS)
        if not asking.done():
            asking.cancel()
        elif (changed := asking.result()) is not None:
            return not changed
    services.metrics.count("answers_from_memory_total", "Answers given while the database could not be asked")
    return True


async def _any_changed(services: Services, checks: Sequence[tuple[UUID, int]]) -> bool | None:
    """Ask the log; None where it can't be asked.

    After a restart of the server each connection in the pool is found broken once; the pool puts new ones in place.
    """
    for _ in range(services.pool.max_size + 1):
        try:
            async with services.pool.connection() as connection:
                return await any_changed(connection, checks)
        except (PoolTimeout, TooManyRequests, DatabaseAway):
            return None
        except psycopg.OperationalError:
            continue
    return None
