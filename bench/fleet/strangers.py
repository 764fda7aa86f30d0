"""Abuse by people whom the customer does not know, or should not share with: leaked keys, shared seats, two at once."""

from __future__ import annotations

from bench.fleet.devices import Device
from bench.fleet.intents import Intent
from bench.fleet.licence import Abuse, Licence
from bench.fleet.networks import Network
from bench.fleet.people import Person
from bench.fleet.places import CITIES, WEIGHTS, City, distance_km
from bench.fleet.seeds import DAY, HOUR, MINUTE, Dice
from bench.fleet.sessions import use_of
from bench.fleet.world import World

FAR_KM = 1500.0


def stranger(world: World, dice: Dice, city: City) -> Person:
    """Make a person who has nothing to do with the customer: own home, own carrier, perhaps a VPN."""
    return world.person(dice, city, None, travels=0.1)


def near_or_far(dice: Dice, home: City, *, near: bool) -> City:
    """Choose a city: in the same country, or in another, more than 1,500 km away."""
    cities = [city for city in CITIES if city.country == home.country] if near else []
    cities = cities or [city for city in CITIES if city.country != home.country and distance_km(city, home) > FAR_KM]
    return dice.choice(cities)


def begin(world: World, dice: Dice, licence: Licence, latest: float = 0.8) -> float:
    """Choose when an abuse begins: after some days of the licence's normal use."""
    first = max(world.window.start, licence.issued_at)
    return first + dice.uniform(0.08, latest) * (world.window.end - first)


def leaked_key(world: World, dice: Dice, licence: Licence) -> Abuse:
    """The key is published: strangers from everywhere, or from the customer's own country, try it for themselves."""
    variant, strangers, every = dice.choice(
        (
            ("flood", dice.randint(50, 160), dice.uniform(0.02, 0.15)),
            ("steady", dice.randint(20, 60), dice.uniform(0.15, 0.5)),
            ("local forum", dice.randint(12, 40), dice.uniform(0.1, 0.4)),
            ("quiet", dice.randint(7, 14), dice.uniform(0.3, 0.9)),
        )
    )
    own = len(licence.devices)
    if dice.chance(0.45):
        licence.max_devices = max(licence.max_devices, own + dice.randint(8, 60))
        variant += ", seats free"
    free = licence.max_devices - own
    time = begin(world, dice, licence)
    for number in range(strangers):
        who = dice.of("stranger", number)
        local = variant.startswith("local") or dice.chance(0.1)
        city = near_or_far(who, licence.city, near=True) if local else who.choices(CITIES, WEIGHTS)[0]
        device = world.makers.device(who, who.choice(("laptop", "home")))
        _tries(world, who, licence, stranger(world, who, city), device=device, time=time, gets_a_seat=number < free)
        time += who.spread(every * DAY)
    return Abuse("leaked_key", variant)


def _tries(  # noqa: PLR0913 - who, with what, when, and to what effect
    world: World, dice: Dice, licence: Licence, person: Person, *, device: Device, time: float, gets_a_seat: bool
) -> None:
    network = dice.choice(list(person.vpn.values())) if person.vpn and dice.chance(0.6) else person.home
    for _ in range(1 if gets_a_seat else 1 + dice.count(1.2)):
        licence.intents.append(Intent(time, "activate", device, network, abuse=True))
        time += dice.spread(20 * MINUTE if dice.chance(0.7) else 20 * HOUR)
    if gets_a_seat:
        end = time + dice.spread(8 * DAY)
        uses = use_of(dice, person, device, world.habits, world.window, busy=0.6)
        licence.intents += [intent._replace(abuse=True) for intent in uses if time < intent.time < end]


def credential_sharing(world: World, dice: Dice, licence: Licence) -> Abuse:
    """All seats are taken, and one goes to and fro between the customer and people with networks of their own."""
    near, transfers = dice.chance(0.4), dice.chance(0.4)
    a_day = dice.choice((1.5, 2.5, 4, 8))
    own = dice.choice(licence.members)
    device = own.devices[0]
    licence.max_devices = max(len(licence.devices), 1)
    parties: list[tuple[Device, Network, Network]] = [(device, own.person.home, own.person.carrier)]
    for number in range(dice.choice((1, 1, 2, 3))):
        who = dice.of("sharer", number)
        other = stranger(world, who, near_or_far(who, licence.city, near=near))
        parties.append((world.makers.device(who, "laptop"), other.home, other.carrier))
    time = begin(world, dice, licence)
    licence.intents = [intent for intent in licence.intents if intent.device is not device or intent.time < time]
    licence.intents.append(Intent(time, "start", device, own.person.home))
    holder = parties[0]
    while time < world.window.end:
        hour = (time / HOUR + licence.city.utc_offset) % 24
        slot = dice.uniform(0.6, 1.4) * 16 * HOUR / a_day
        if not 6 < hour < 24 - min(slot / HOUR, 3):  # noqa: PLR2004 - hours of the day
            time += 2 * HOUR
            continue
        taker = dice.choice([party for party in parties if party is not holder])
        _hand_over(
            world, dice, licence,
            giver=holder, taker=taker, time=time, length=min(slot, 5 * HOUR), transfers=transfers,
        )  # fmt: skip
        holder, time = taker, time + slot
    return Abuse(
        "credential_sharing", f"{'near' if near else 'far'}, {a_day} a day, {'transfer' if transfers else 'release'}"
    )


def _hand_over(  # noqa: PLR0913 - who, to whom, when, for how long, how
    world: World,
    dice: Dice,
    licence: Licence,
    *,
    giver: tuple[Device, Network, Network],
    taker: tuple[Device, Network, Network],
    time: float,
    length: float,
    transfers: bool,
) -> None:
    device, home, carrier = taker
    network = carrier if dice.chance(0.12) else home
    if transfers:
        licence.intents.append(Intent(time, "transfer", device, network, partner=giver[0], abuse=True))
    else:
        licence.intents.append(
            Intent(time - dice.uniform(0.5, 9) * MINUTE, "deactivate", giver[0], giver[1], abuse=True)
        )
        licence.intents.append(Intent(time, "activate", device, network, abuse=True))
    beat = time + world.habits.heartbeat * dice.random()
    while beat < time + length - 12 * MINUTE:
        licence.intents.append(Intent(beat, "heartbeat", device, network))
        beat += world.habits.heartbeat


def impossible_travel(world: World, dice: Dice, licence: Licence) -> Abuse:
    """Somebody far away has a seat of a person's licence, and often starts the program when that person does."""
    share = dice.choice((0.15, 0.3, 0.6, 1.0))
    licence.max_devices = max(licence.max_devices, len(licence.devices) + 1)
    who = dice.of("other")
    other = stranger(world, who, near_or_far(who, licence.city, near=False))
    device = world.makers.device(who, "laptop")
    since = begin(world, dice, licence)
    starts = [
        intent
        for intent in licence.intents
        if intent.action == "start"
        and intent.time > since
        and intent.device
        and intent.device.where in {"laptop", "home"}
    ]
    starts.sort(key=lambda intent: intent.time)
    for number, own in enumerate(starts):
        if number and not dice.chance(share):
            continue
        time = own.time + dice.uniform(1, 35) * MINUTE
        network = other.carrier if dice.chance(0.1) else other.home
        licence.intents.append(Intent(time, "start", device, network, abuse=True))
        for beat in range(dice.randrange(4)):
            time += world.habits.heartbeat * (1 + beat * 0.01)
            licence.intents.append(Intent(time, "heartbeat", device, network, abuse=True))
    return Abuse("impossible_travel", f"{share:.0%} of starts")
