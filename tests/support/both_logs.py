"""Rows that a test appends to both logs, remembered, so that the views over them can be folded in plain Python."""

from __future__ import annotations

from itertools import count
from typing import Any
from uuid import UUID

from infra.postgres import Database
from tests.support import naive_usage
from tests.support.client import eventually
from tests.support.event_log import START, append, lives_of_licenses
from tests.support.usage import Use, store
from tests.support.workers import are_at_the_end, differing_rows

_seeds = count(1)


class BothLogs:
    """What was appended to the logs of a database by this test."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.uses: list[Use] = []

    def add(self, size: int) -> None:
        """Append about so many rows to each log."""
        append(self.database, lives_of_licenses(size, seed=next(_seeds)))
        self.add_uses(
            Use(START, UUID(int=number % 7 + 1), f"pc-{number % 50}", "license.validated") for number in range(size)
        )

    def add_uses(self, uses: Any) -> None:
        """Append rows to the usage log."""
        rows = list(uses)
        store(self.database, rows)
        self.uses += rows

    def assert_applied_once(self) -> None:
        """Assert that each view holds each row once, and is where its logs end."""
        assert are_at_the_end(self.database)
        assert naive_usage.tables_of(self.database) == naive_usage.fold(self.uses)
        assert differing_rows(self.database) == {}

    async def followed(self, *consumers: str, seconds: float = 30.0) -> None:
        """Wait until consumers, by default those of the projector, have passed all that both logs hold."""

        async def so() -> bool:
            return are_at_the_end(self.database, *consumers)

        await eventually(so, seconds)


def give_place(database: Database, worker: str) -> None:
    """Let the next worker begin at once: the lease of one that was killed would make it wait for seconds."""
    with database.connect() as connection:
        connection.execute("DELETE FROM leases WHERE worker = %s", (worker,))
