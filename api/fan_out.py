"""What this process knows of the workers, for health and metrics: read from the database, at most once a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric

from projections import lag
from projections.lag import ConsumerState, FanOut

FRESH_SECONDS = 1.0


class FanOutWatch:
    """Holds the last reading. `pool` gives connections."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._turn = asyncio.Lock()
        self._read_at = float("-inf")
        self.last: FanOut | None = None

    async def read(self) -> FanOut:
        """Return a reading that is no older than a second. Raises psycopg's errors, and forgets the last one."""
        async with self._turn:
            if self.last is None or time.monotonic() - self._read_at > FRESH_SECONDS:
                self.last = None
                async with self._pool.connection() as connection:
                    found = await lag.read(connection)
                self.last, self._read_at = found, time.monotonic()
            return self.last

    def metrics(self) -> Iterator[Metric]:
        """Give the gauges of the last reading; none where the database could not be asked."""
        if self.last is None:
            return
        yield _family("consumer_lag_seconds", "Age of the oldest row a consumer has not applied", self.last, _lag)
        yield _family("dead_letters", "Events that a consumer has set aside", self.last, _dead_letters)
        alive = GaugeMetricFamily("lizenzserver_worker_alive", "Whether a process does the work", labels=["worker"])
        for worker in self.last.workers:
            alive.add_metric([worker.worker], float(worker.alive))
        yield alive
        trouble = GaugeMetricFamily("lizenzserver_worker_trouble", "Whether a worker is in trouble", labels=["worker"])
        for worker in self.last.workers:
            trouble.add_metric([worker.worker], float(bool(worker.trouble)))
        yield trouble


def _family(name: str, meaning: str, fan_out: FanOut, value: Any) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"lizenzserver_{name}", meaning, labels=["consumer"])
    for state in fan_out.consumers:
        family.add_metric([state.consumer], value(state))
    return family


def _lag(state: ConsumerState) -> float:
    return state.lag_seconds


def _dead_letters(state: ConsumerState) -> float:
    return float(state.dead_letters)
