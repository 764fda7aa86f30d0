"""An API process killed at any point under load: what was answered is stored, what was not is resolved by its key."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from tests.support.client import Client, Reply
from tests.support.cluster import Cluster
from tests.support.invariants import check_invariants, check_outcomes, read_log
from tests.support.processes import Pair, ServerProcess, client_of, running_pair

CALLERS = 48
ROUNDS = 5


@pytest.fixture
def pair(cluster: Cluster) -> Iterator[Pair]:
    """Give a pair of its own, since one of them dies."""
    with running_pair(cluster, "patient_server") as running:
        yield running


class Load:
    """Callers that activate one new device after the other on one process until it is gone.

    The request id of an activation is its idempotency key, so that its events can be found in the log.
    """

    def __init__(self, client: Client, license: dict[str, Any], name: str) -> None:
        self.client = client
        self.license = license
        self.name = name
        self.answered: dict[str, Reply] = {}
        self.lost: set[str] = set()
        self.enough = asyncio.Event()

    async def run(self, kill_after: int) -> None:
        """Begin, and return when every caller has lost its connection; `enough` is set after so many answers."""
        await asyncio.gather(*(self._caller(number, kill_after) for number in range(CALLERS)))

    async def _caller(self, number: int, kill_after: int) -> None:
        for attempt in range(10_000):
            key = f"{self.name}-{number}-{attempt}"
            try:
                reply = await self.ask(self.client, key)
            except (aiohttp.ClientError, OSError):
                self.lost.add(key)
                return
            assert reply.status == 201, reply
            self.answered[key] = reply
            if len(self.answered) >= kill_after:
                self.enough.set()

    async def ask(self, client: Client, key: str) -> Reply:
        """Activate the device of this name under the key of this name."""
        return await client.activate(self.license, key, idempotency_key=key, x_request_id=key)


async def test_what_was_answered_is_stored_and_what_was_not_is_resolved_by_its_key(pair: Pair) -> None:
    chance = random.Random(20260301)
    victim = pair.one
    statuses: dict[str, int] = {}
    unanswered_but_saved = 0
    async with pair.clients(pair.other) as (survivor,), AsyncExitStack() as started:
        license = await survivor.new_license(max_devices=100_000)
        for round_ in range(5 * ROUNDS):
            if round_ >= ROUNDS and unanswered_but_saved:
                break
            if round_:
                victim = await asyncio.to_thread(_started_again, pair)
                started.callback(victim.kill)
            async with client_of(victim) as client:
                client.api_key = survivor.api_key
                load = Load(client, license, f"round-{round_}")
                running = asyncio.create_task(load.run(chance.randint(1, 800)))
                await load.enough.wait()
                # Somewhere within the next batches, between any two instructions.
                await asyncio.sleep(chance.random() * 0.02)
                await asyncio.to_thread(victim.kill)
                await running
            assert load.lost
            # Orders of the dead process may still be committing; the next command waits for them.
            await survivor.new_license()
            saved = {event.cause.request_id for _, event in read_log(pair.database)}
            assert saved >= load.answered.keys()
            unanswered_but_saved += len(load.lost & saved)
            for key in load.lost:
                reply = await load.ask(survivor, key)
                assert reply.status == 201, reply
                assert ("Idempotency-Replayed" in reply.headers) == (key in saved)
            for key in chance.sample(sorted(load.answered), min(20, len(load.answered))):
                reply = await load.ask(survivor, key)
                assert (reply.status, reply.body) == (201, load.answered[key].body)
                assert "Idempotency-Replayed" in reply.headers
            statuses |= dict.fromkeys([*load.answered, *load.lost], 201)
        check_outcomes(check_invariants(pair.database), statuses)
    # Otherwise nothing was shown: no kill came between a commit and its answers.
    assert unanswered_but_saved > 0
    assert pair.other.log() == ""


def _started_again(pair: Pair) -> ServerProcess:
    return ServerProcess(pair.database, pair.data_dir, "patient_server").wait_ready()


async def test_a_process_that_is_asked_to_end_finishes_what_it_has_begun(pair: Pair) -> None:
    async with pair.clients(pair.one, pair.other) as (client, survivor):
        license = await survivor.new_license(max_devices=100_000)
        load = Load(client, license, "stop")
        running = asyncio.create_task(load.run(200))
        await load.enough.wait()
        await asyncio.to_thread(pair.one.stop)
        await running
        for key in load.lost:
            # These found the port closed: they were not begun.
            assert "Idempotency-Replayed" not in (await load.ask(survivor, key)).headers
        check_outcomes(check_invariants(pair.database), dict.fromkeys([*load.answered, *load.lost], 201))
