"""Abuse by the customers themselves: scripts that hammer, and clocks that are put back."""

from __future__ import annotations

from bench.fleet.devices import Device
from bench.fleet.intents import Intent
from bench.fleet.licence import Abuse, Licence
from bench.fleet.seeds import DAY, HOUR, MINUTE, Dice
from bench.fleet.strangers import begin
from bench.fleet.world import World


def hammering(world: World, dice: Dice, licence: Licence) -> Abuse:
    """A script asks without a pause: for hours, for days at a lower rate, or in bursts day after day."""
    device = dice.choice(licence.devices)
    since = begin(world, dice, licence)
    last = next((intent for intent in reversed(licence.intents) if intent.device is device and intent.network), None)
    network = last.network if last else licence.office
    variant, pause, hours, bursts = dice.choice(
        (
            ("flood", dice.uniform(1.5, 6), dice.uniform(1, 4), 1),
            ("day and night", dice.uniform(10, 30), dice.uniform(12, 40), 1),
            ("each day", dice.uniform(5, 15), dice.uniform(0.7, 2), dice.randint(3, 6)),
        )
    )
    if device not in licence.known_devices:
        licence.intents.append(Intent(since - MINUTE, "start", device, network))
    for burst in range(bursts):
        time = since + burst * DAY
        line = network.pinned(time) if network else None
        end = time + hours * HOUR
        while time < end:
            licence.intents.append(Intent(time, "validate", device, line, abuse=True))
            time += pause * dice.uniform(0.5, 1.5)
    return Abuse("hammering", f"{variant}, every {pause:.0f} s")


def clock_rollback(world: World, dice: Dice, licence: Licence) -> Abuse:
    """The term ends, is not renewed, and some or all machines are put back to a time before its end."""
    window = world.window
    end = begin(world, dice, licence, latest=0.75) + dice.uniform(0, 4) * HOUR
    licence.expires_at = end
    variant = dice.choice(("once", "each day", "just before the end", "creeping"))
    cheats = licence.devices if dice.chance(0.5) else licence.devices[: max(1, len(licence.devices) // 3)]
    since = end + dice.uniform(0.1, 3) * DAY
    for device in cheats:
        device.clock.shown = True
        device.clock.epoch = None
        device.clock.offset = max(min(device.clock.offset, 600.0), -600.0)
        back = dice.choice((5, 30, 90, 300)) * DAY
        for day in range(window.days):
            time = since + day * DAY
            behind = {
                "once": back + (since - end),
                "each day": back / 5 + (time - end) + dice.random() * HOUR,
                "just before the end": (time - end) + dice.uniform(1.2, 20) * DAY,
                "creeping": (time - end) + 2 * DAY,
            }[variant]
            device.clock.turn_back(time, behind)
            if variant == "once":
                break
    licence.intents = [
        intent if intent.time <= end else intent._replace(abuse=intent.time >= since)
        for intent in licence.intents
        if intent.action not in {"terms", "suspend", "resume"}
        and (intent.time <= end or _still_tries(dice, intent, since, cheats))
    ]
    network = next(
        (intent.network for intent in licence.intents if intent.device is cheats[0] and intent.network), None
    )
    time = since + MINUTE
    while time < window.end:
        licence.intents.append(Intent(time, "validate", cheats[0], network, abuse=True))
        time += dice.spread(1.5 * DAY) + 5 * MINUTE
    return Abuse("clock_rollback", f"{variant}, {len(cheats)} of {len(licence.devices)} machines")


def _still_tries(dice: Dice, intent: Intent, since: float, cheats: list[Device]) -> bool:
    """Tell whether this use comes about after the end: cheats go on, others see the refusal for two days or so."""
    if intent.device in cheats and intent.time >= since:
        return intent.action != "heartbeat" or dice.chance(0.2)
    return intent.action == "start" and intent.time < since + DAY and dice.chance(0.5)
