"""A hundred thousand spoilt requests: none is a server error, each answer is in our shape, the server lives on.

`FUZZ_REQUESTS=1000000` makes the run longer, `FUZZ_SEED` makes it another one.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator

from tests.security.mutations import mutated
from tests.security.raw_http import RawAnswer, RawConnection, ask
from tests.support.client import eventually
from tests.support.ports import Ports
from tests.support.world import World, valid_requests

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "100000"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
CONNECTIONS = 48
BUSY_SECONDS = 2.0
"""How long the server is left alone with a request that it had no time for."""
PATIENCE = 0.2
"""Seconds to wait before a request is taken to be unfinished: lengths are spoilt too."""
REST = b"\r\n\r\n0\r\n\r\n" + b" " * 70_000
"""Finishes, or breaks, what is unfinished, so that it has to be answered too."""

RARE = frozenset({"/metrics", "/openapi.json", "/docs", "/api/v1/auth/api-keys"})
"""Answers that are long, and grow with what the other requests make: asked for once where others are for each seat."""


async def test_no_request_breaks_the_server(ports: Ports, world: World) -> None:
    seen: Counter[str] = Counter()
    stream = _requests(world)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONNECTIONS):
            tasks.create_task(_attack(ports.ports["all"], stream, seen))

    problems = {text: count for text, count in seen.items() if text.startswith("!")}
    assert problems == {}
    assert seen["2xx"] + seen["4xx"] > 0.95 * REQUESTS, seen
    assert seen["2xx"] > 0.1 * REQUESTS, seen
    assert seen["5xx"] <= 0.001 * REQUESTS, (
        seen
    )  # 503: a busy machine, perhaps; what a request causes comes in numbers.

    async def is_ready() -> bool:
        return (await ask(ports.ports["all"], b"GET /health/ready HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200

    await eventually(is_ready)
    assert "unexpected error" not in ports.printed()
    assert "Traceback" not in ports.printed()


def _requests(world: World) -> Iterator[bytes]:
    draw = random.Random(SEED)
    for number in range(REQUESTS):
        if number % 1000 == 0:
            of_all_seats = [valid_requests(world, seat, f"m{number}") for seat in world.seats]
            valid = of_all_seats[0] + [each for some in of_all_seats[1:] for each in some if each.path not in RARE]
        request = draw.choice(valid)
        request.headers["X-Forwarded-For"] = f"10.0.{number >> 8 & 15}.{number & 255}"
        yield mutated(draw, [request])


async def _attack(port: int, stream: Iterator[bytes], seen: Counter[str]) -> None:
    connection = await RawConnection.open(port)
    try:
        for raw in stream:
            is_head = raw.lstrip().startswith(b"HEAD ")
            try:
                answer, was_finished = await _answer(connection, raw, has_body=not is_head)
                if answer is not None and answer.status == 503:
                    # What a busy machine had no time for it takes later; what the request causes comes again.
                    await connection.close()
                    await asyncio.sleep(BUSY_SECONDS)
                    connection = await RawConnection.open(port)
                    answer, was_finished = await _answer(connection, raw, has_body=not is_head)
            except (TimeoutError, ConnectionError) as error:
                answer, was_finished = None, False
                seen[type(error).__name__] += 1
            else:
                seen[_described(raw, answer)] += 1
            if answer is None or answer.closes or is_head or not was_finished:
                await connection.close()
                connection = await RawConnection.open(port)
    finally:
        await connection.close()


async def _answer(connection: RawConnection, raw: bytes, *, has_body: bool) -> tuple[RawAnswer | None, bool]:
    await connection.send(raw)
    try:
        return await connection.receive(PATIENCE, has_body=has_body), True
    except TimeoutError:
        await connection.send(REST)
        return await connection.receive(has_body=has_body), False


def _described(raw: bytes, answer: RawAnswer | None) -> str:
    if answer is None:
        return "hung up"
    problem = answer.problem()
    return f"! {answer.status} {problem}: {raw[:1000]!r}" if problem else f"{answer.status // 100}xx"
