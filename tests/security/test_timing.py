"""How long a refusal takes tells nothing: medians of many, taken in turns so that a busy machine slows all alike."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count

import pytest

from infra.api_secrets import digest, equal, new_api_key, well_formed
from tests.support.client import Client, Reply

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


def check_alike(found: Sequence[float], noise: float = NOISE) -> None:
    assert max(found) <= min(found) * (1 + noise) + 50, found  # 50 ns: what the clock itself can tell apart.


def test_comparing_a_secret_takes_as_long_wherever_it_differs() -> None:
    first, last = f"X{SECRET[1:]}", f"{SECRET[:-1]}X"

    check_alike(medians(lambda given: equal(given, SECRET), [SECRET, first, last]))


def test_a_long_secret_too() -> None:
    """So long that a comparison from left to right would show."""
    secret = SECRET * 1000
    values = [secret, f"X{secret[1:]}", f"{secret[:-1]}X"]

    check_alike(medians(lambda given: equal(given, secret), values, ROUNDS // 10))


def test_api_keys_are_looked_up_by_digest_and_their_checksum_costs_the_same() -> None:
    key = new_api_key()
    body = key[3:]
    altered = [key, f"sk_{'a' if body[0] != 'a' else 'b'}{body[1:]}", f"{key[:-1]}{'a' if key[-1] != 'a' else 'b'}"]

    assert [well_formed(each) for each in altered] == [True, False, False]
    check_alike(medians(well_formed, altered))
    check_alike(medians(digest, altered))


Call = Callable[[str], Awaitable[Reply]]


async def medians_over_http(calls: Sequence[Call], rounds: int) -> list[float]:
    """As `medians`; each request comes from an address of its own, so that no limit interferes."""
    draw, addresses = random.Random(1), count()
    order = list(range(len(calls)))
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        draw.shuffle(order)
        for number in order:
            turn = next(addresses)
            started = time.perf_counter()
            reply = await calls[number](f"10.{turn >> 16}.{turn >> 8 & 255}.{turn & 255}")
            taken[number].append(time.perf_counter() - started)
            assert reply.status == 404
    return [statistics.median(each) for each in taken]


@pytest.mark.parametrize("path", ["/activate", "/admin/licenses/enable"])
async def test_a_wrong_e_mail_takes_as_long_as_an_unknown_key(client: Client, path: str) -> None:
    license = await client.new_license(email="owner@example.com")
    body = {"device_hash": "d", "device_name": "n", "enabled": True}
    known = {**body, "license_key": license["license_key"], "email": "other@example.com"}
    unknown = {**body, "license_key": "LIC-" + "A" * 12, "email": "owner@example.com"}
    secrets = (
        {"x_client_token": client.secrets.client_token}
        if path == "/activate"
        else {"x_admin_token": client.secrets.admin_token}
    )

    def asking(sent: dict[str, object]) -> Call:
        return lambda address: client.request(
            "POST", f"/licenses-api/v1{path}", sent, x_forwarded_for=address, **secrets
        )

    first, second = await medians_over_http([asking(known), asking(unknown)], 300)
    assert abs(first - second) < 0.25 * max(first, second), (first, second)
