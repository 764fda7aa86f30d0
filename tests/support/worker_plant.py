"""A database and a broker, where workers come and go as processes of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from infra.postgres import Database
from tests.support.both_logs import BothLogs, give_place
from tests.support.client import eventually
from tests.support.nursery import Child, Nursery
from tests.support.rabbit import Rabbit, VirtualHost
from workers.broker import queue_name

MOST_WORKERS = 5
TURN_SECONDS = 1.2
"""An anomaly worker pauses for a second between two turns, and acks after each."""


@dataclass
class WorkerPlant:
    """Starts workers over the database that `logs` are in."""

    nursery: Nursery
    rabbit: Rabbit
    host: VirtualHost
    data_dir: Path
    logs: BothLogs

    @property
    def database(self) -> Database:
        return self.logs.database

    def work(self, name: str, **environ: str) -> Child:
        """Start a worker, which finds its place free."""
        give_place(self.database, name)
        settings = {"AMQP_URL": self.host.url, "LOG_LEVEL": "info", **environ}
        return self.nursery.run(self.database, self.data_dir, "work", name, **settings)

    async def listens(self, worker: Child) -> None:
        """Wait until a worker gets word from its queue."""

        async def so() -> bool:
            return "comes from RabbitMQ" in worker.log()

        await eventually(so)

    async def acks_all(self, consumer: str) -> None:
        """Have sound workers answer all messages; assert that they do so soon, and that none was dead-lettered.

        What was delivered and not acked comes back when a worker ends, which alone shows that there was any.
        """
        for _ in range(MOST_WORKERS):
            with self.work(consumer) as worker:
                await self.listens(worker)
                await eventually(self._all_are_delivered(consumer))
                await asyncio.sleep(TURN_SECONDS)
                assert worker.stop() == 0, worker.log()
            if self.host.size(queue_name(consumer)) == 0:
                break
        assert self.host.size(queue_name(consumer)) == 0
        assert self.host.size(f"{queue_name(consumer)}.dead") == 0

    def _all_are_delivered(self, consumer: str) -> Callable[[], Awaitable[bool]]:
        async def so() -> bool:
            return await asyncio.to_thread(self.host.size, queue_name(consumer)) == 0

        return so
