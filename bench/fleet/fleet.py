"""A whole fleet: its customers, their lives, what is done to them, and what the server logs of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from bench.fleet import incidents
from bench.fleet.abuse import GUESSING, commit, shares
from bench.fleet.customers import alone, company, enterprise, floating_team, team
from bench.fleet.licence import Abuse, Licence
from bench.fleet.lines import ENCODER, Line, moment_or_none
from bench.fleet.machines import build_servers, classroom, left_running, throw_away_builders
from bench.fleet.seeds import DAY, HOUR, Dice
from bench.fleet.server import Desk
from bench.fleet.unknown_keys import Misses
from bench.fleet.world import World, make_world

SORTS: dict[Callable[[World, Dice], Licence], float] = {
    alone: 0.46,
    team: 0.22,
    company: 0.11,
    floating_team: 0.08,
    enterprise: 0.02,
    build_servers: 0.04,
    throw_away_builders: 0.03,
    classroom: 0.04,
}
ADMINISTRATIVE: frozenset[str] = frozenset(
    {"license.issued", "license.updated", "license.deactivated", "license.reactivated"}
)


@dataclass
class Fleet:
    """What is written: encoded lines of use in order of time, lines of licences, and the truth."""

    world: World
    usage: list[bytes]
    licences: list[dict[str, object]]
    truth: list[Abuse]
    subjects: list[str]
    sorts: dict[str, str]


def make_fleet(seed: int, licences: int = 400, days: int = 45) -> Fleet:
    """Make the fleet of that seed. The same arguments make the same fleet."""
    world = make_world(seed, days)
    customers = _customers(world, licences)
    numbers = shares(world.dice.of("shares"), licences)
    _ordinary_incidents(world, customers)
    commit(world, world.dice.of("abuse"), customers, numbers)
    _outages(world, customers)
    lines: list[tuple[float, int, bytes]] = []

    def log(time: float, line: Line) -> None:
        if world.style.administrative or line.type not in ADMINISTRATIVE:
            lines.append((time, len(lines), ENCODER.encode(line)))

    misses = Misses(world, log)
    misses.honest(world.dice.of("misses"), customers)
    guesses = [misses.guess(world.dice.of("guess", number)) for number in range(numbers[GUESSING])]
    for licence in customers:
        licence.first_terms = (licence.max_devices, licence.expires_at)
        Desk(world.dice.of("desk", licence.license_id), licence, log, world.window.start).serve(world.window.end)
        licence.intents.clear()
    lines.sort()
    done = [(licence.license_id, licence.abuse) for licence in customers if licence.abuse and licence.abuse.events]
    done += [(guess.ip or "", guess) for guess in guesses if guess.events]
    return Fleet(
        world=world,
        usage=[line for _, _, line in lines],
        licences=[_terms(world, licence) for licence in customers],
        truth=[abuse for _, abuse in done],
        subjects=[subject for subject, _ in done],
        sorts={licence.license_id: licence.sort for licence in customers},
    )


def _customers(world: World, number: int) -> list[Licence]:
    makes: list[Callable[[World, Dice], Licence]] = []
    for make, share in SORTS.items():
        makes += [make] * max(1, round(share * number))
    makes = (makes + [alone] * number)[:number]
    return [make(world, world.dice.of("licence", index)) for index, make in enumerate(makes)]


def _ordinary_incidents(world: World, customers: list[Licence]) -> None:
    dice = world.dice.of("incidents")
    chatty = dice.chance(0.5)
    for licence in customers:
        own = dice.of(licence.license_id)
        incidents.replace_machines(world, own, licence)
        if licence.sort in {"company", "enterprise"}:
            left_running(world, own, licence)
        if licence.sort in {"team", "company", "enterprise"} and own.chance(0.15):
            incidents.grow(world, own, licence)
        if own.chance(0.15) and licence.issued_at < world.window.start + DAY:
            incidents.end_of_term(world, own, licence)
        elif own.chance(0.6):
            licence.expires_at = world.window.end + own.uniform(2, 700) * DAY
        if own.chance(0.02):
            incidents.suspend(world, own, licence)
        if chatty and own.chance(0.1):
            incidents.chatty_version(world, own, licence)


def _outages(world: World, customers: list[Licence]) -> None:
    dice = world.dice.of("outages")
    for number in range(dice.choice((1, 2, 2, 3))):
        workday = dice.randrange(max(1, world.window.days // 7)) * 7 + dice.randrange(5)
        start = world.window.start + workday * DAY + dice.uniform(7, 15) * HOUR
        end = start + dice.choice((0.2, 0.5, 1, 3)) * HOUR
        storm = dice.choice((5, 12, 25))
        for licence in customers:
            own = dice.of(number, licence.license_id)
            incidents.come_back_all_at_once(own, licence, start, end, storm=storm)


def _terms(world: World, licence: Licence) -> dict[str, object]:
    at_end = (licence.max_devices, licence.expires_at)
    max_devices, expires_at = at_end if world.style.terms_at_end else licence.first_terms
    return {
        "license_id": licence.license_id,
        "max_devices": max_devices,
        "floating": licence.floating,
        "expires_at": moment_or_none(expires_at),
    }


def count_kinds(fleet: Fleet) -> Counter[str]:
    """Count the subjects by kind."""
    return Counter(abuse.kind for abuse in fleet.truth)
