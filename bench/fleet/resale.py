"""Abuse as a trade: seats that go from customer to customer, and one machine's identity on several machines."""

from __future__ import annotations

from bench.fleet.intents import Intent
from bench.fleet.licence import Abuse, Licence
from bench.fleet.places import CITIES, WEIGHTS
from bench.fleet.seeds import DAY, HOUR, Dice
from bench.fleet.sessions import use_of
from bench.fleet.strangers import begin, near_or_far, stranger
from bench.fleet.world import World


def reseller_rotation(world: World, dice: Dice, licence: Licence) -> Abuse:
    """Seats are rented out: day after day new customers' machines, each for some days; the oldest are released."""
    a_day = dice.choice((1.2, 2, 3.5, 6))
    stay = dice.uniform(2.5, 8)
    local, tells = dice.chance(0.4), dice.chance(0.6)
    licence.max_devices = max(licence.max_devices, len(licence.devices) + round(a_day * stay) + 2)
    time, number = begin(world, dice, licence, latest=0.55), 0
    while time < world.window.end:
        who = dice.of("customer", number)
        city = near_or_far(who, licence.city, near=True) if local else who.choices(CITIES, WEIGHTS)[0]
        person, device = stranger(world, who, city), world.makers.device(who, who.choice(("laptop", "home")))
        end = time + who.uniform(0.5, 1.5) * stay * DAY
        licence.intents.append(Intent(time, "activate", device, person.home, abuse=True))
        uses = use_of(who, person, device, world.habits, world.window, busy=0.7)
        licence.intents += [intent._replace(abuse=True) for intent in uses if time < intent.time < end]
        licence.intents.append(
            Intent(end, "deactivate", device, person.home, abuse=True)
            if tells
            else Intent(end, "release", device, abuse=True)
        )
        time += dice.expovariate(a_day / DAY)
        number += 1
    return Abuse("reseller_rotation", f"{a_day} a day for {stay:.0f} days{', local' if local else ''}")


def cloned_hardware_id(world: World, dice: Dice, licence: Licence) -> Abuse:
    """Copies of one machine's identity are in use elsewhere, all day, while the machine itself is."""
    near = dice.chance(0.5)
    share_of_days = dice.choice((0.4, 0.7, 1.0))
    copies = dice.choice((1, 1, 2, 4))
    owner = dice.choice(licence.members)
    device, original = owner.devices[0], owner.person.office or owner.person.home
    networks = [
        stranger(world, dice.of("copy", number), near_or_far(dice, licence.city, near=near)).home
        for number in range(copies)
    ]
    since = begin(world, dice, licence)
    day = since - (since - world.window.start) % DAY
    while day < world.window.end:
        if dice.chance(share_of_days):
            morning = day + (8 - licence.city.utc_offset) * HOUR
            for network in (original, *networks):
                time = morning + dice.uniform(0, 2) * HOUR
                end = morning + dice.uniform(7, 13) * HOUR
                licence.intents.append(Intent(time, "start", device, network, abuse=network is not original))
                while time < end:
                    time += world.habits.heartbeat * dice.uniform(0.6, 1.1)
                    licence.intents.append(Intent(time, "heartbeat", device, network, abuse=network is not original))
        day += DAY
    licence.intents = [intent for intent in licence.intents if not intent.abuse or intent.time >= since]
    return Abuse("cloned_hardware_id", f"{copies} {'near' if near else 'far'}, {share_of_days:.0%} of days")
