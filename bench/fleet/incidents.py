"""What happens to honest customers: machines are replaced, teams grow, bills are paid late, a bug asks too often."""

from __future__ import annotations

from bench.fleet.devices import Device
from bench.fleet.intents import Intent, Terms
from bench.fleet.licence import Licence, Member
from bench.fleet.seeds import DAY, HOUR, MINUTE, Dice
from bench.fleet.sessions import use_of
from bench.fleet.world import World


def replace_machines(world: World, dice: Dice, licence: Licence) -> None:
    """Replace machines or image them anew, one in forty a month; the old one gives its seat back, or falls silent."""
    for member in licence.members:
        for index, device in enumerate(member.devices):
            if dice.chance(0.04 * world.window.days / 45):
                time = max(world.window.start, licence.issued_at) + dice.uniform(1, world.window.days) * DAY
                member.devices[index] = _replace(world, dice, licence, device, time)
                licence.changed = True


def _replace(world: World, dice: Dice, licence: Licence, old: Device, time: float) -> Device:
    new = world.makers.device(dice, old.where)
    both_for = dice.choice((0, 0, 1, 3)) * DAY
    last = next((intent for intent in reversed(licence.intents) if intent.device is old and intent.time < time), None)
    kept: list[Intent] = []
    for intent in licence.intents:
        if intent.device is not old or intent.time < time:
            kept.append(intent)
            continue
        partner = old if intent.action == "start" else None
        kept.append(intent._replace(device=new, partner=partner))
        if intent.time < time + both_for and dice.chance(0.4):
            kept.append(intent._replace(time=intent.time + dice.uniform(5, 50) * MINUTE))
    if last and dice.chance(0.5):
        kept.append(Intent(time + both_for, "deactivate", old, last.network))
    licence.intents = kept
    return new


def grow(world: World, dice: Dice, licence: Licence) -> None:
    """Hire: new people with new machines, one by one or in a group, within the seats or with more of them."""
    hired = dice.randint(2, 4 + len(licence.members) // 3)
    first = max(world.window.start, licence.issued_at) + dice.uniform(2, world.window.days * 0.8) * DAY
    together = dice.chance(0.5)
    if len(licence.devices) + hired > licence.max_devices:
        licence.intents.append(Intent(first - HOUR, "terms", terms=Terms(more_devices=hired)))
    for number in range(hired):
        since = first + (dice.random() * 6 * HOUR if together else number * dice.uniform(0.5, 4) * DAY)
        city = licence.members[0].person.city
        person = world.person(dice, city, licence.office, travels=0.2)
        device = world.makers.device(dice, "laptop")
        uses = use_of(dice, person, device, world.habits, world.window)
        licence.intents += [intent for intent in uses if intent.time > since]
        licence.members.append(Member(person, [device]))


def end_of_term(world: World, dice: Dice, licence: Licence) -> None:
    """Give a licence an end within the window: renewed before, renewed late, or never (then they soon give up)."""
    window = world.window
    licence.expires_at = end = window.start + dice.uniform(3, window.days - 1) * DAY
    luck = dice.random()
    if luck < 0.5:  # noqa: PLR2004 - half renew in time
        renewed = end - dice.uniform(0.01, 20) * DAY
    elif luck < 0.85:  # noqa: PLR2004 - a third late
        renewed = end + dice.choice((0.2, 1, 2, 4, 9)) * DAY * dice.uniform(0.5, 1.5)
    else:
        renewed = window.end + DAY
    if window.start < renewed < window.end:
        licence.intents.append(
            Intent(renewed, "terms", terms=Terms(expires_at=end + dice.choice((365, 365, 730)) * DAY))
        )
    patience = dice.choice((2, 5, 10)) * DAY
    licence.intents = [
        intent
        for intent in licence.intents
        if not end < intent.time < renewed
        or intent.action not in {"start", "heartbeat"}
        or (intent.time < end + patience and dice.chance(0.5 if intent.action == "start" else 0.1))
    ]


def suspend(world: World, dice: Dice, licence: Licence) -> None:
    """Suspend a licence for a few days: a bill was not paid."""
    start = world.window.start + dice.uniform(2, world.window.days) * DAY
    if start > licence.issued_at + 2 * DAY:
        licence.intents.append(Intent(start, "suspend"))
        licence.intents.append(Intent(start + dice.uniform(0.1, 5) * DAY, "resume"))


def chatty_version(world: World, dice: Dice, licence: Licence) -> None:
    """For some days, a new version asks three to five times as often as the one before, until it is mended."""
    start = world.window.start + dice.uniform(5, world.window.days - 4) * DAY
    end = start + dice.uniform(1, 4) * DAY
    more = [
        intent._replace(time=intent.time + dice.random() * HOUR, action="validate")
        for intent in licence.intents
        if intent.action in {"heartbeat", "start"} and start < intent.time < end
        for _ in range(dice.randint(2, 4))
        if not licence.floating
    ]
    licence.intents += more


def come_back_all_at_once(dice: Dice, licence: Licence, start: float, end: float, *, storm: float) -> None:
    """The service is down from `start` to `end`; clients that were in use then repeat, `storm` times on average."""
    waiting: dict[Device, Intent] = {}
    kept: list[Intent] = []
    for intent in licence.intents:
        in_outage = start <= intent.time < end
        if intent.device and intent.network and start - 1.5 * HOUR <= intent.time < end and not intent.abuse:
            waiting[intent.device] = intent
        if not in_outage or intent.network is None:
            kept.append(intent)
    for device, last in waiting.items():
        if last.action in {"deactivate", "transfer"} or last.network is None:
            continue
        time = end + dice.spread(90)
        network = last.network.pinned(time)
        kept.append(Intent(time, "start", device, network))
        pause = dice.uniform(3, 40)
        for _ in range(int(dice.spread(storm))):
            time += pause * dice.uniform(0.7, 1.3)
            kept.append(Intent(time, "validate", device, network))
    licence.intents = kept
