"""What has to be done now and then: the clock's offset, coming days' partitions, rows whose time is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout

from infra.clock import Clock, ClockFault
from infra.keyring import Keyring, KeyringError

log = logging.getLogger(__name__)

CLOCK_SECONDS = 10.0
CLEANING_EVERY = 60
"""Rounds of the clock between two cleanings: ten minutes."""

IDEMPOTENCY_LIFE = timedelta(hours=24)
WRITER_LIFE = timedelta(days=7)
"""How long a process may be silent before its last round is forgotten."""
FAMILY_KEPT = timedelta(days=1)
"""How long a family of refresh tokens is kept after its last token's end. Its first token would be good again without
it, so that no process's clock may be further behind.
"""


class Housekeeping:
    """Runs until it is cancelled. Any number of processes may do this at once."""

    def __init__(
        self, pool: Any, clock: Clock, keyring: Keyring, retention_days: int, beat: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._keyring = keyring
        self._retention_days = retention_days
        self._beat = beat

    async def run(self) -> None:
        """Adjust the clock every ten seconds, and clean up every ten minutes."""
        rounds = 0
        while True:
            try:
                await self._round(clean=rounds % CLEANING_EVERY == 0)
                self._beat()
            except (psycopg.Error, PoolTimeout, OSError) as error:
                log.warning("housekeeping waits for the database: %s", error)
            except (ClockFault, KeyringError) as error:
                log.error("%s", error)  # noqa: TRY400 - the message says all, a traceback nothing more
            rounds += 1
            await asyncio.sleep(CLOCK_SECONDS)

    async def _round(self, *, clean: bool) -> None:
        async with self._pool.connection() as connection:
            await self._clock.adjust(connection)
            self._keyring.reload_if_changed()
            if clean:
                await self._clean(connection)

    async def _clean(self, connection: Any) -> None:
        now = self._clock.now()
        today = now.date()
        await connection.execute("SELECT ensure_usage_partitions(%s, %s)", (today, today + timedelta(days=2)))
        await connection.execute("SELECT drop_usage_partitions(%s)", (today - timedelta(days=self._retention_days),))
        await connection.execute("DELETE FROM idempotency WHERE created_at < %s", (now - IDEMPOTENCY_LIFE,))
        await connection.execute("DELETE FROM usage_writers WHERE stored_at < %s", (now - WRITER_LIFE,))
        await connection.execute("DELETE FROM refresh_families WHERE expires_at < %s", (now - FAMILY_KEPT,))
