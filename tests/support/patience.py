"""A service that is in no hurry: where the machine stands still for seconds, its answers come late but are the same.

In use, it refuses whom the database keeps waiting for a moment, answers from memory, or stores a row after the answer.
Tests of that take the database away, and run it as it is. All others are about what it answers otherwise, and must not
depend on how busy the machine is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import pytest

from api.services import Services
from infra.postgres import Database
from infra.settings import Settings
from tests.support.client import Client
from tests.support.service import running

SECONDS = 20
"""More than a machine stands still, and less than a caller waits for an order's outcome."""

_WAITS = (
    "infra.watched_connections.ANSWER_SECONDS",
    "infra.pulse.CONNECT_SECONDS",
    "infra.postgres.CONNECT_TIMEOUT_SECONDS",
    "infra.postgres.POOL_WAIT_SECONDS",
    "api.shared_reads.POOL_WAIT_SECONDS",
    "api.late_checks.LATE_SECONDS",
    "api.routes.health.PROBE_SECONDS",
)


def patient(settings: Settings) -> Settings:
    """Return the same, but that whoever has an answer finds its row in the usage log."""
    return replace(settings, usage_wait_ms=SECONDS * 1000)


@contextmanager
def patience() -> Iterator[None]:
    """Have whatever waits for the database in this process wait for long."""
    with pytest.MonkeyPatch.context() as patch:
        for name in _WAITS:
            patch.setattr(name, SECONDS)
        yield


@asynccontextmanager
async def running_patiently(settings: Settings, database: Database) -> AsyncIterator[tuple[Services, Client]]:
    """Run all services as `running` does, in no hurry."""
    with patience():
        async with running(patient(settings), database) as parts:
            yield parts
