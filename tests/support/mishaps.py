"""What can happen to a plant, by name: each takes a part down or away for a while, and brings it back."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.support.plant import WORKERS, Plant

LONGEST_OUTAGE_SECONDS = 2.0
"""For which a part that was killed stays away."""


@dataclass(frozen=True, slots=True)
class Mishap:
    """Something that happens: `happen` returns when all parts are there again, though perhaps not ready yet.

    `hits` are the parts that are killed or held up; `weight` says how often it comes in the long run. `is_kill` says
    that the parts had no time to put anything away.
    """

    name: str
    hits: tuple[str, ...]
    weight: int
    happen: Callable[[Plant, random.Random], None]
    is_kill: bool = False


def mishaps(apis: tuple[str, ...], longest_freeze: float) -> list[Mishap]:
    """Return all that can happen. Killing RabbitMQ takes ten seconds, and so comes seldom."""
    found = [*_of_processes(apis, longest_freeze), *_of_postgres(longest_freeze), *_of_rabbit(longest_freeze)]
    workers = (apis[0], *WORKERS, "reader")
    return [
        *found,
        Mishap("kill all API processes", apis, 2, _killing(*apis), is_kill=True),
        Mishap("kill an API process and all workers", workers, 2, _killing(*workers), is_kill=True),
        Mishap("kill PostgreSQL and the relay", ("postgres", "relay"), 2, _killing("postgres", "relay"), is_kill=True),
    ]


def deal(all_of_them: list[Mishap], chance: random.Random) -> Iterator[Mishap]:
    """Give mishaps without an end: at first each once, in some order; then by their weights."""
    first = list(all_of_them)
    chance.shuffle(first)
    yield from first
    deck = [mishap for mishap in all_of_them for _ in range(mishap.weight)]
    while True:
        chance.shuffle(deck)
        yield from deck


def _of_processes(apis: tuple[str, ...], longest_freeze: float) -> Iterator[Mishap]:
    for name in apis:
        yield Mishap(f"kill {name}", (name,), 5, _killing(name), is_kill=True)
    yield Mishap(f"SIGTERM to {apis[-1]}", (apis[-1],), 3, _stopping(apis[-1]))
    yield Mishap(f"freeze {apis[-1]}", (apis[-1],), 3, _freezing(apis[-1], longest_freeze))
    for name in WORKERS:
        yield Mishap(f"kill {name}", (name,), 4, _killing(name), is_kill=True)
        yield Mishap(f"freeze {name}", (name,), 2, _freezing(name, longest_freeze))
    yield Mishap("SIGTERM to relay", ("relay",), 1, _stopping("relay"))
    yield Mishap("kill reader", ("reader",), 3, _killing("reader"), is_kill=True)


def _of_postgres(longest_freeze: float) -> Iterator[Mishap]:
    yield Mishap("kill PostgreSQL", ("postgres",), 4, _killing("postgres"), is_kill=True)
    yield Mishap("stop PostgreSQL at once", ("postgres",), 4, _stopping("postgres"))
    yield Mishap("freeze PostgreSQL", ("postgres",), 3, _freezing("postgres", longest_freeze))
    yield Mishap("cut the connections to PostgreSQL", ("postgres",), 4, _cutting("postgres"))
    yield Mishap("lose what PostgreSQL says", ("postgres",), 3, _disturbing("hole", "postgres", longest_freeze))
    yield Mishap("delay what PostgreSQL says", ("postgres",), 2, _disturbing("hold", "postgres", longest_freeze))


def _of_rabbit(longest_freeze: float) -> Iterator[Mishap]:
    yield Mishap("kill RabbitMQ", ("rabbit",), 2, _killing("rabbit"), is_kill=True)
    yield Mishap("freeze RabbitMQ", ("rabbit",), 2, _freezing("rabbit", longest_freeze))
    yield Mishap("cut the connections to RabbitMQ", ("rabbit",), 3, _cutting("rabbit"))
    yield Mishap("lose what RabbitMQ says", ("rabbit",), 2, _disturbing("hole", "rabbit", longest_freeze))


def _killing(*names: str) -> Callable[[Plant, random.Random], None]:
    def happen(plant: Plant, chance: random.Random) -> None:
        for name in names:
            plant.kill(name)
        time.sleep(chance.random() * LONGEST_OUTAGE_SECONDS)
        for name in names:
            plant.start(name)

    return happen


def _stopping(name: str) -> Callable[[Plant, random.Random], None]:
    def happen(plant: Plant, _chance: random.Random) -> None:
        plant.stop(name)
        plant.start(name)

    return happen


def _freezing(name: str, longest: float) -> Callable[[Plant, random.Random], None]:
    def happen(plant: Plant, chance: random.Random) -> None:
        plant.freeze(name)
        try:
            time.sleep(chance.uniform(0.2, longest))
        finally:
            plant.thaw(name)

    return happen


def _cutting(name: str) -> Callable[[Plant, random.Random], None]:
    """Cut the connections some times, as they come again."""

    def happen(plant: Plant, chance: random.Random) -> None:
        for _ in range(chance.randint(1, 5)):
            plant.disturb("cut", name)
            time.sleep(chance.random() * 0.3)

    return happen


def _disturbing(what: str, name: str, longest: float) -> Callable[[Plant, random.Random], None]:
    def happen(plant: Plant, chance: random.Random) -> None:
        plant.disturb(what, name)
        try:
            time.sleep(chance.uniform(0.2, longest))
        finally:
            plant.disturb("open", name)

    return happen
