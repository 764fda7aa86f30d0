"""A hundred thousand spoilt requests: none is a server error, each answer is in our shape, the server lives on.

`FUZZ_REQUESTS=1000000` makes the run longer, `FUZZ_SEED` makes it another one.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.security.mutations import mutated
from tests.security.raw_http import RawConnection, ask
from tests.support.ports import Ports
from tests.support.world import World, valid_requests

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "100000"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
CONNECTIONS = 48
PATIENCE = 0.3
"""Seconds to wait for the answer to a request that may be unfinished: lengths are spoilt too."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_no_request_breaks_the_server(ports: Ports, world: World) -> None:
    seen: Counter[str] = Counter()
    stream = _requests(world)
    await asyncio.gather(*(_attack(ports.ports["all"], stream, seen) for _ in range(CONNECTIONS)))

    print(seen)
    problems = {text: count for text, count in seen.items() if text.startswith("!")}
    assert problems == {}
    assert seen["silent"] < REQUESTS / 5, seen
    assert seen["answered 2xx"] > REQUESTS / 100, seen
    assert seen["answered 4xx"] > REQUESTS / 3, seen
    assert (await ask(ports.ports["all"], b"GET /health/ready HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200
    assert "unexpected error" not in ports.printed()
    assert "Traceback" not in ports.printed()


def _requests(world: World) -> Iterator[bytes]:
    draw = random.Random(SEED)
    for number in range(REQUESTS):
        seat = world.seats[number % len(world.seats)]
        if number % 1000 == 0:
            valid = [request for seat in world.seats for request in valid_requests(world, seat, f"m{number}")]
        address = f"10.{draw.randrange(256)}.{draw.randrange(256)}.{draw.randrange(256)}"
        request = draw.choice(valid)
        request.headers["X-Forwarded-For"] = address
        yield mutated(draw, [request])


async def _attack(port: int, stream: Iterator[bytes], seen: Counter[str]) -> None:
    connection = await RawConnection.open(port)
    for raw in stream:
        try:
            await connection.send(raw)
            answer = await connection.receive(PATIENCE, has_body=not raw.startswith(b"HEAD "))
        except TimeoutError:
            seen["silent"] += 1
        except ConnectionError:
            seen["hung up"] += 1
        else:
            if answer is not None:
                problem = answer.problem()
                seen[f"! {answer.status} {problem}: {raw[:1000]!r}" if problem else f"answered {answer.status // 100}xx"] += 1
                if not answer.closes and not raw.startswith(b"HEAD "):
                    continue
            else:
                seen["hung up"] += 1
        await connection.close()
        connection = await RawConnection.open(port)
    await connection.close()
