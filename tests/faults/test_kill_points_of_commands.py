"""An API process killed at each point of a command and of a usage round: what was answered is stored, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.postgres import Database
from tests.support.client import Client, eventually
from tests.support.cluster import Cluster
from tests.support.keyed_commands import KeyedCommands
from tests.support.marked_validations import MarkedValidations
from tests.support.nursery import Nursery, Server


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
        assert server.complaints() == [], "no other process suffers"
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
    with survivor.doomed(point, 6) as doomed:
        async with survivor.clients(doomed) as (client, other):
            validations = await MarkedValidations.prepare(client)
            await validations.run(other)
            assert await asyncio.to_thread(doomed.ended_at, point)
            assert validations.answered, "it was killed in the midst of its work"
            # The dead process held the log's lock: another one's rows are stored all the same, and at once.
            await client.validate(validations.license, "pc", fields={"app_version": "later"})

            async def has_gone_on() -> bool:
                return "later" in validations.stored(survivor.database)

            await eventually(has_gone_on)
    stored = validations.stored(survivor.database)
    asked, answered = validations.asked, validations.answered
    assert answered <= stored.keys() <= asked | {"later"}
    assert set(stored.values()) == {1}
    if outcome == "done":
        assert stored.keys() - answered - {"later"}
    if outcome == "undone":
        assert asked - stored.keys()
