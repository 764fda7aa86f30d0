"""How long a refusal takes tells nothing: medians of many, taken in turns so that a busy machine slows all alike."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import count

import pytest

from infra.api_secrets import _checksum, digest, equal, new_api_key, well_formed
from tests.security.raw_http import RawConnection
from tests.support.client import Client
from tests.support.ports import Ports
from tests.support.world import Request, World

SECRET = "adm_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
ROUNDS = 20_000
NOISE = 0.15
"""By which share medians may differ. A comparison that stops at the first difference differs by more than half here."""


def medians(call: Callable[[str], object], values: Sequence[str], rounds: int = ROUNDS) -> list[float]:
    """Measure each value `rounds` times, in an order that changes with every round."""
    draw, clock = random.Random(1), time.perf_counter_ns
    order = list(range(len(values)))
    taken: list[list[int]] = [[] for _ in values]
    for _ in range(rounds):
        draw.shuffle(order)
        for number in order:
            value = values[number]
            started = clock()
            call(value)
            taken[number].append(clock() - started)
    return [statistics.median(each) for each in taken]


ATTEMPTS = 4
"""Measurements that may differ, all but one: what a value makes of the time it makes of it each time."""


def check_alike(measure: Callable[[], Sequence[float]], noise: float = NOISE) -> None:
    seen = []
    for _ in range(ATTEMPTS):
        seen.append(found := measure())
        if max(found) <= min(found) * (1 + noise) + 50:  # 50 ns: what the clock itself can tell apart.
            return
    raise AssertionError(seen)


def test_comparing_a_secret_takes_as_long_wherever_it_differs() -> None:
    first, last = f"X{SECRET[1:]}", f"{SECRET[:-1]}X"

    check_alike(lambda: medians(lambda given: equal(given, SECRET), [SECRET, first, last]))


def test_a_long_secret_too() -> None:
    """So long that a comparison from left to right would show."""
    secret = SECRET * 1000
    values = [secret, f"X{secret[1:]}", f"{secret[:-1]}X"]

    check_alike(lambda: medians(lambda given: equal(given, secret), values, ROUNDS // 10))


def test_api_keys_are_looked_up_by_digest_and_their_checksum_costs_the_same() -> None:
    key = new_api_key()
    body = key[3:]
    altered = [key, f"sk_{'a' if body[0] != 'a' else 'b'}{body[1:]}", f"{key[:-1]}{'a' if key[-1] != 'a' else 'b'}"]

    assert [well_formed(each) for each in altered] == [True, False, False]
    check_alike(lambda: medians(well_formed, altered))
    check_alike(lambda: medians(digest, altered))


MEASURED = 10_000
"""How many answers are measured for each credential, half of them to either of two."""
CONNECTIONS = 8
PATIENCE = 30.0


async def check_answers_alike(port: int, requests: Sequence[Callable[[str], bytes]], expected: int) -> None:
    """What differs by less than this drowns in what the network, the kernel and the event loop make of it."""
    seen = []
    for _ in range(ATTEMPTS):
        seen.append(found := await medians_over_http(port, requests, expected))
        if max(found) <= min(found) * 1.1 + 0.000_1:
            return
    raise AssertionError(seen)


async def medians_over_http(port: int, requests: Sequence[Callable[[str], bytes]], expected: int) -> list[float]:
    """Measure how long answers take, several connections at once, each taking turns in an order that changes.

    Each request comes from an address of its own, so that no limit interferes. Gives medians in seconds.
    """
    taken: list[list[float]] = [[] for _ in requests]
    addresses = count()

    async def measure(number: int) -> None:
        draw, order = random.Random(number), list(range(len(requests)))
        connection = await RawConnection.open(port)
        for _ in range(MEASURED // len(requests) // CONNECTIONS):
            draw.shuffle(order)
            for which in order:
                turn = next(addresses)
                raw = requests[which](f"10.{turn >> 16}.{turn >> 8 & 255}.{turn & 255}")
                started = time.perf_counter()
                await connection.send(raw)
                answer = await connection.receive(PATIENCE)
                taken[which].append(time.perf_counter() - started)
                assert answer is not None
                assert answer.status == expected
        await connection.close()

    await asyncio.gather(*(measure(number) for number in range(CONNECTIONS)))
    assert sum(map(len, taken)) >= MEASURED
    return [statistics.median(each) for each in taken]


def asking(path: str, headers: dict[str, str], body: dict[str, object] | None = None) -> Callable[[str], bytes]:
    """Make a request of which only the address changes."""
    method = "GET" if body is None else "POST"
    return lambda address: Request(method, path, {**headers, "X-Forwarded-For": address}, body).raw()


@pytest.mark.parametrize(
    "header,path",
    [
        ("X-Admin-API-Key", "/api/v1/admin/statistics"),
        ("X-Admin-Secret", "/api/v1/auth/api-keys"),
        ("X-Client-Token", "/licenses-api/v1/public-key"),
        ("X-Admin-Token", "/licenses-api/v1/admin/licenses"),
    ],
)
async def test_a_nearly_right_secret_is_refused_as_fast_as_a_wrong_one(
    ports: Ports, world: World, header: str, path: str
) -> None:
    right = getattr(world.client.secrets, header.removeprefix("X-").replace("-", "_").lower())
    nearly, wrong = f"{right[:-1]}~", f"{right[:4]}{'~' * (len(right) - 4)}"

    requests = [asking(path, {header: nearly}), asking(path, {header: wrong})]
    await check_answers_alike(ports.ports["all"], requests, 401)


async def test_an_api_key_that_is_nearly_somebodys_is_refused_as_fast_as_any(ports: Ports, world: World) -> None:
    """Both are well formed, so that both are looked for."""
    body, other = world.client.api_key[3:-6], new_api_key()[3:-6]
    nearly = f"{body[:-1]}{'a' if body[-1] != 'a' else 'b'}"
    keys = [f"sk_{text}{_checksum(text)}" for text in (nearly, other)]
    assert all(map(well_formed, keys))
    device: dict[str, object] = {"license_key": "LIC-AAAAAAAAAAAA", "hardware_id": "d"}
    requests = [asking("/api/v1/license/validate", {"X-API-Key": key}, device) for key in keys]

    await check_answers_alike(ports.ports["all"], requests, 401)


@pytest.mark.parametrize("path", ["/activate", "/admin/licenses/enable"])
async def test_a_wrong_e_mail_takes_as_long_as_an_unknown_key(
    ports: Ports, world: World, attacker: Client, path: str
) -> None:
    license = await attacker.new_license(email="owner@example.com")
    body: dict[str, object] = {"device_hash": "d", "device_name": "n", "enabled": True}
    known = {**body, "license_key": license["license_key"], "email": "other@example.com"}
    unknown = {**body, "license_key": "LIC-" + "A" * 12, "email": "owner@example.com"}
    secrets = world.client.secrets
    headers = (
        {"X-Client-Token": secrets.client_token} if path == "/activate" else {"X-Admin-Token": secrets.admin_token}
    )
    requests = [asking(f"/licenses-api/v1{path}", headers, each) for each in (known, unknown)]

    await check_answers_alike(ports.ports["all"], requests, 404)
