"""Customers whose devices are machines, and schools: builds round the clock, throw-away builders, classrooms."""

from __future__ import annotations

from bench.fleet.intents import Intent
from bench.fleet.licence import Licence, Member
from bench.fleet.seeds import DAY, HOUR, MINUTE, Dice
from bench.fleet.sessions import always_on, use_of
from bench.fleet.world import World


def build_servers(world: World, dice: Dice) -> Licence:
    """Fixed machines that validate at each build, day and night, more on working days, far more before a release."""
    machines = dice.randint(2, 8)
    licence = world.blank(dice, "build", world.city(dice), machines + dice.choice((0, 2, 10)))
    where = dice.choices(("office", "one way out", "own addresses", "gateway"), (40, 42, 15, 3))[0]
    if where == "office":
        network = world.office(dice, licence.city)
    elif where == "gateway":
        network = world.internet.cloud_gateway()
    else:
        network = world.internet.cloud_account(fixed=where == "one way out")
    an_hour = dice.uniform(0.5, 3)
    rushes = [dice.uniform(0, world.window.days) * DAY for _ in range(dice.count(1.5))]
    for _ in range(machines):
        device = world.makers.device(dice, "server")
        licence.known_devices.append(device)
        line = network.pinned(world.window.start) if where == "own addresses" else network
        time = max(world.window.start, licence.issued_at) + dice.random() * HOUR
        while time < world.window.end:
            licence.intents.append(Intent(time, "start", device, line))
            since = time - world.window.start
            busy = 0.5 if since // DAY % 7 >= 5 else 1.0  # noqa: PLR2004 - Saturday
            busy *= 4.0 if any(rush < since < rush + DAY for rush in rushes) else 1.0
            time += dice.expovariate(1.0) * HOUR / an_hour / busy
    return _sold(world, licence)


def throw_away_builders(world: World, dice: Dice) -> Licence:
    """A new machine with a new hardware id for each run; most give their seat back, some vendors' admins sweep up."""
    licence = world.blank(dice, "builders", world.city(dice), dice.choice((8, 15, 20, 50)), floating=dice.chance(0.6))
    network = world.internet.cloud_account(fixed=dice.chance(0.3))
    a_day = dice.uniform(8, 60)
    tidy = dice.choice((0.9, 0.98, 1.0))
    time = max(world.window.start, licence.issued_at)
    while time < world.window.end:
        hour = (time / HOUR) % 24
        busy = (1.6 if 6 <= hour < 18 else 0.4) * (0.4 if (time - world.window.start) // DAY % 7 >= 5 else 1.0)  # noqa: PLR2004
        time += dice.expovariate(1.0) * DAY / a_day / busy
        device = world.makers.device(dice, "server")
        end = time + dice.uniform(3, 50) * MINUTE
        line = network.pinned(time)
        licence.intents.append(Intent(time, "activate", device, line))
        if dice.chance(0.5):
            licence.intents.append(Intent(time + (end - time) * dice.random(), "validate", device, line))
        if dice.chance(tidy):
            licence.intents.append(Intent(end, "deactivate", device, line))
        else:
            licence.intents.append(Intent(end + dice.uniform(0.5, 8) * HOUR, "release", device))
    return _sold(world, licence)


def classroom(world: World, dice: Dice) -> Licence:
    """A school: its own machines, imaged anew from time to time, or the students' laptops on its network."""
    students = dice.randint(15, 40)
    licence = world.blank(
        dice, "classroom", world.city(dice), students + dice.choice((0, 5, 20)), floating=dice.chance(0.2)
    )
    school = licence.office = world.internet.office(licence.city)
    own_laptops = dice.chance(0.5)
    exams = dice.randrange(world.window.days)
    for _ in range(students):
        person = world.person(dice, licence.city, school, travels=0.1)
        device = world.makers.device(dice, "laptop" if own_laptops else "office")
        licence.members.append(Member(person, [device]))
        since = licence.issued_at + dice.choice((dice.random() * HOUR, dice.random() * 3 * DAY)) + 9 * HOUR
        uses = [
            intent
            for intent in use_of(dice, person, device, world.habits, world.window, busy=0.35)
            if intent.time > since and (own_laptops or intent.network is school)
        ]
        around = world.window.start + exams * DAY
        uses += [
            intent._replace(time=intent.time + dice.uniform(3, 30) * MINUTE)
            for intent in uses
            if around - 5 * DAY < intent.time < around
        ]
        licence.intents += uses
    licence.known_devices += licence.devices
    if not own_laptops and dice.chance(0.6):
        _image_anew(world, dice, licence, world.window.start + dice.uniform(5, world.window.days - 2) * DAY)
    return _sold(world, licence)


def _image_anew(world: World, dice: Dice, licence: Licence, time: float) -> None:
    """All machines get a new image at the weekend, and with it a new hardware id; the admin frees the old seats."""
    kept: list[Intent] = [intent for intent in licence.intents if intent.time < time]
    for member in licence.members:
        old, new = member.devices[0], world.makers.device(dice, "office")
        kept.append(Intent(time + dice.random() * 5 * HOUR, "release", old))
        kept += [
            intent._replace(device=new)
            for intent in licence.intents
            if intent.device is old and intent.time >= time + 6 * HOUR
        ]
        kept.append(Intent(time + dice.uniform(5, 8) * HOUR, "start", new, licence.office))
        member.devices[0] = new
    licence.intents = kept


def left_running(world: World, dice: Dice, licence: Licence) -> None:
    """A machine in the office is never switched off."""
    member = dice.choice(licence.members)
    if licence.office and not licence.floating and member.devices[0].where == "office":
        licence.intents += always_on(dice, member.devices[0], licence.office, world.habits, world.window)


def _sold(world: World, licence: Licence) -> Licence:
    """Let a licence that is sold within the window begin there."""
    if licence.issued_at >= world.window.start:
        licence.known_devices.clear()
        licence.intents = [intent for intent in licence.intents if intent.time > licence.issued_at]
        licence.intents.append(Intent(licence.issued_at, "issue"))
    return licence
