"""Callers that validate again and again, each time under an app version of its own, so that each row can be found."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import aiohttp

from infra.postgres import Database
from tests.support.client import Client

CALLERS = 8


class MarkedValidations:
    """What was asked, and what was answered. `enough` ends the callers; so does a process that is gone."""

    def __init__(self, license: dict[str, Any]) -> None:
        self.license = license
        self.asked: set[str] = set()
        self.answered: set[str] = set()
        self.refused: list[int] = []
        self.enough = False

    @classmethod
    async def prepare(cls, client: Client) -> MarkedValidations:
        """Make a licence whose only device is validated."""
        license = await client.new_license(max_devices=1)
        assert (await client.activate(license, "pc")).status == 201
        return cls(license)

    async def run(self, client: Client, pause_seconds: float = 0.0) -> None:
        """Validate until there is enough or nobody answers."""
        await asyncio.gather(*(self._call(client, caller, pause_seconds) for caller in range(CALLERS)))

    async def _call(self, client: Client, caller: int, pause_seconds: float) -> None:
        number = 0
        while not self.enough:
            number += 1
            version = f"{caller}.{number}"
            self.asked.add(version)
            try:
                reply = await client.validate(self.license, "pc", fields={"app_version": version})
            except (aiohttp.ClientError, OSError):
                return
            if reply.status == 200:
                self.answered.add(version)
            else:
                self.refused.append(reply.status)
            await asyncio.sleep(pause_seconds)

    def stored(self, database: Database) -> Counter[str]:
        """Return how often each app version is in the usage log."""
        query = "SELECT app_version FROM usage WHERE license_id = %s AND app_version IS NOT NULL"
        with database.connect() as connection:
            rows = connection.execute(query, (self.license["license_id"],)).fetchall()
        return Counter(row["app_version"] for row in rows)
