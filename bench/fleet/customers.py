"""Customers who are people: alone, in teams, in floating teams, in large companies."""

from __future__ import annotations

from bench.fleet.devices import Device
from bench.fleet.intents import Intent
from bench.fleet.licence import Licence, Member
from bench.fleet.networks import Network
from bench.fleet.people import Person
from bench.fleet.seeds import DAY, HOUR, MINUTE, Dice
from bench.fleet.sessions import always_on, use_of
from bench.fleet.world import World


def alone(world: World, dice: Dice) -> Licence:
    """One person with one to three devices."""
    city = world.city(dice)
    office: Network | None = None
    if dice.chance(0.25):
        city, office = dice.choice(world.shared_offices)
    elif dice.chance(0.3):
        office = world.office(dice, city)
    licence = world.blank(dice, "alone", city, dice.choice((1, 1, 2, 2, 3, 3, 5)))
    person = world.person(dice, city, office, travels=0.6)
    wheres = ["laptop", "home", "tablet"] if dice.chance(0.6) else ["home", "laptop", "tablet"]
    owned = 1 + dice.chance(0.55) + dice.chance(0.25)
    devices = [world.makers.device(dice, where) for where in wheres[: min(owned, licence.max_devices)]]
    licence.members.append(Member(person, devices))
    _move_in(world, dice, licence)
    if licence.max_devices == 1 and "laptop" in {device.where for device in devices} and dice.chance(0.25):
        _one_seat_for_two(world, dice, licence, person, devices[0])
    return licence


def team(world: World, dice: Dice) -> Licence:
    """Three to nine people, in one office or spread over homes, a few of them over countries."""
    return _company(world, dice, "team", dice.randint(3, 9), spare=(0, 0, 1, 2, 5), distributed=0.12)


def company(world: World, dice: Dice) -> Licence:
    """Ten to forty people with a seat each."""
    return _company(world, dice, "company", dice.randint(8, 32), spare=(1, 3, 5, 8, 20), distributed=0.2)


def enterprise(world: World, dice: Dice) -> Licence:
    """Fifty to a hundred people."""
    return _company(world, dice, "enterprise", dice.randint(45, 90), spare=(10, 30, 60, 110), distributed=0.5)


def floating_team(world: World, dice: Dice) -> Licence:
    """More people than seats, at two or three sites: a seat is taken at the start and given back at the end."""
    people = dice.randint(5, 26)
    cities = [world.city(dice) for _ in range(dice.choice((1, 2, 2, 3)))]
    seats = max(2, round(people / dice.uniform(1.3, 2.4)))
    licence = world.blank(dice, "floating", cities[0], seats, floating=True)
    sites = [(city, world.office(dice, city)) for city in cities]
    licence.office = sites[0][1]
    for _ in range(people):
        city, office = dice.choice(sites)
        person = world.person(dice, city, office, travels=0.3)
        licence.members.append(Member(person, [world.makers.device(dice, dice.choice(("laptop", "office")))]))
    _move_in(world, dice, licence, busy=0.8)
    licence.known_devices.clear()
    return licence


def _company(  # noqa: PLR0913 - three sizes of the same
    world: World, dice: Dice, sort: str, people: int, *, spare: tuple[int, ...], distributed: float
) -> Licence:
    city = world.city(dice)
    office: Network | None = world.office(dice, city)
    if dice.chance(0.2):
        city, office = dice.choice(world.shared_offices)
    elif dice.chance(0.1):
        office = None
    spread_out = dice.chance(distributed)
    gateway = world.internet.office(world.city(dice)) if sort != "team" and dice.chance(0.25) else None
    licence = world.blank(dice, sort, city, people + dice.choice(spare))
    licence.office = office
    for _ in range(people):
        remote = spread_out and dice.chance(0.5)
        person = world.person(dice, world.city(dice) if remote else city, None if remote else office, travels=0.25)
        if gateway and dice.chance(0.6):
            person.vpn, person.exit, person.vpn_share = {gateway.country: gateway}, gateway.country, 0.5
        devices = [world.makers.device(dice, "laptop" if remote or not office else dice.choice(("laptop", "office")))]
        if dice.chance(0.1) and licence.max_devices > people + len(licence.members) // 8:
            devices.append(world.makers.device(dice, "home"))
        licence.members.append(Member(person, devices))
    licence.max_devices = max(licence.max_devices, len(licence.devices))
    _move_in(world, dice, licence)
    return licence


def _move_in(world: World, dice: Dice, licence: Licence, busy: float = 1) -> None:
    """Let all members use their devices, each from a moment within the first two days after the licence was sold."""
    habits = world.habits._replace(gives_back=licence.floating)
    calm = frozenset(dice.sample(range(world.window.days), 5)) if dice.chance(0.1) else frozenset[int]()
    peak = dice.randrange(world.window.days) if dice.chance(0.15) else None
    for member in licence.members:
        member.person.absent.update(calm)
        for number, device in enumerate(member.devices):
            uses = use_of(dice, member.person, device, habits, world.window, busy=busy * (1.0 if number == 0 else 0.6))
            if number and device.where in {"home", "office"} and dice.chance(0.15):
                uses += always_on(dice, device, member.person.home, habits, world.window)
            since = licence.issued_at + dice.random() * 2 * DAY
            licence.intents += [intent for intent in uses if intent.time > since]
    if peak is not None:
        _rush(dice, licence, world.window.start + peak * DAY)
    if licence.issued_at < world.window.start:
        licence.known_devices += licence.devices
    else:
        licence.intents.append(Intent(licence.issued_at, "issue"))


def _rush(dice: Dice, licence: Licence, start: float) -> None:
    """The end of a quarter: for five days everybody starts the program twice as often."""
    end = start + 5 * DAY
    again = [
        intent._replace(time=intent.time + dice.uniform(2, 40) * MINUTE, action="start")
        for intent in licence.intents
        if intent.action in {"start", "heartbeat"} and start <= intent.time < end and not licence.floating
    ]
    licence.intents += again


def _one_seat_for_two(world: World, dice: Dice, licence: Licence, person: Person, laptop: Device) -> None:
    """One seat and two machines: it is moved to the other at home for a day or a weekend, and back, now and then."""
    desktop = world.makers.device(dice, "home")
    licence.changed = True
    others: list[Intent] = []
    for _ in range(dice.randint(1, 5)):
        start = max(licence.issued_at + 3 * DAY, world.window.start) + dice.uniform(0, world.window.days) * DAY
        end = start + dice.choice((0.4, 1, 2)) * DAY
        licence.intents = [intent for intent in licence.intents if not start <= intent.time <= end]
        others.append(Intent(start, "deactivate", laptop, person.home))
        others.append(Intent(start + dice.uniform(2, 90) * MINUTE, "activate", desktop, person.home))
        time = start + 2 * HOUR
        while time < end - HOUR:
            others.append(Intent(time, "heartbeat", desktop, person.home))
            time += dice.uniform(0.8, 4) * HOUR
        others.append(Intent(end - 3 * MINUTE, "deactivate", desktop, person.home))
        others.append(Intent(end, "activate", laptop, person.home))
    licence.intents += [intent for intent in others if intent.time < world.window.end]
