"""An API process killed at each point of a command and of a usage round: what was answered is stored, once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from infra.postgres import Database
from tests.support.client import Client, eventually
from tests.support.cluster import Cluster
from tests.support.keyed_commands import KeyedCommands
from tests.support.nursery import Nursery, Server

VALIDATORS = 8


@dataclass(frozen=True)
class Survivor:
    """A process that lives on, and where others over the same database are started to be killed."""

    nursery: Nursery
    database: Database
    data_dir: Path
    server: Server

    def doomed(self, point: str, times: int) -> Server:
        """Start a process that ends when it is at a point for the n-th time."""
        kill = {"KILL_AT": point, "KILL_PASS": str(times)}
        # Answered validations are all stored: none is answered because its round took long.
        return self.nursery.serve(self.database, self.data_dir, USAGE_WAIT_MS="20000", **kill)

    @asynccontextmanager
    async def clients(self, doomed: Server) -> AsyncIterator[tuple[Client, Client]]:
        """Give a client of the survivor and one of the other, with one API key that has no limits."""
        async with self.server.client() as client:
            client.api_key = (await client.new_api_key())["api_key"]
            async with doomed.client(client.api_key) as other:
                yield client, other


@pytest.fixture(scope="module")
def survivor(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Survivor]:
    database, folder = cluster.new_database(), tmp_path_factory.mktemp("data")
    with Nursery(tmp_path_factory.mktemp("logs")) as nursery, nursery.serve(database, folder) as server:
        yield Survivor(nursery, database, folder, server)
        assert server.log() == "ready\n", "no other process suffers"
    cluster.drop(database)


@pytest.mark.parametrize(
    "point, times, outcome",
    [
        ("orders taken", 6, "undone"),
        ("orders decided", 6, "undone"),
        ("events written", 6, "undone"),
        ("answers kept", 6, "undone"),
        ("commit sent", 6, "either"),
        ("committed", 6, "done"),
        ("outcomes known", 6, "done"),
        ("answering", 40, "done"),
    ],
)
async def test_a_command_is_carried_out_once_and_its_key_gives_its_answer(
    survivor: Survivor, point: str, times: int, outcome: str
) -> None:
    with survivor.doomed(point, times) as doomed:
        async with survivor.clients(doomed) as (client, other):
            commands = await KeyedCommands.prepare(client)
            await commands.run(other, point.replace(" ", "-"))
            assert await asyncio.to_thread(doomed.ended_at, point)
            assert commands.answered, "it was killed in the midst of its work"
            unanswered = set(commands.unanswered)
            untold = await commands.resolve(client, survivor.database)
    if outcome == "done":
        assert untold, "what was committed stays"
    if outcome == "undone":
        assert unanswered - untold, "what was not committed has not happened"
    commands.check(survivor.database)


@pytest.mark.parametrize(
    "point, outcome", [("usage round begun", "undone"), ("usage rows sent", "either"), ("usage rows stored", "done")]
)
async def test_a_validation_that_was_answered_is_noted_once(survivor: Survivor, point: str, outcome: str) -> None:
    answered: set[str] = set()
    asked: set[str] = set()
    with survivor.doomed(point, 6) as doomed:
        async with survivor.clients(doomed) as (client, other):
            license = await client.new_license(max_devices=VALIDATORS)
            for number in range(VALIDATORS):
                await client.activate(license, f"pc-{number}")

            async def validate(caller: int) -> None:
                for number in range(10_000):
                    version = f"{caller}.{number}"
                    asked.add(version)
                    try:
                        reply = await other.validate(license, f"pc-{caller}", fields={"app_version": version})
                    except (aiohttp.ClientError, OSError):
                        return
                    assert reply.status == 200, reply
                    answered.add(version)

            await asyncio.gather(*map(validate, range(VALIDATORS)))
            assert await asyncio.to_thread(doomed.ended_at, point)
            assert answered
            # The dead process held the log's lock: another one's rows are stored all the same, and at once.
            await client.validate(license, "pc-0", fields={"app_version": "later"})
            stored = Counter(await versions(survivor.database, license["license_id"]))
    assert answered <= stored.keys() <= asked | {"later"}
    assert set(stored.values()) == {1}
    if outcome == "done":
        assert stored.keys() - answered - {"later"}
    if outcome == "undone":
        assert asked - stored.keys()


async def versions(database: Database, license_id: str) -> list[str]:
    """Wait for the row of the later validation; return the version of each that there is of a licence."""

    async def found() -> list[str]:
        query = "SELECT app_version FROM usage WHERE license_id = %s AND type = 'license.validated'"
        with database.connect() as connection:
            rows = [row["app_version"] for row in connection.execute(query, (license_id,)).fetchall()]
        return rows if "later" in rows else []

    rows: list[str] = await eventually(found)
    return rows
