"""Ordinary use of a device: programs start, show that they run, end; the network changes under them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from bench.fleet.devices import Device
from bench.fleet.intents import Intent
from bench.fleet.networks import Network
from bench.fleet.people import Person, Stay
from bench.fleet.seeds import DAY, HOUR, MINUTE, Dice
from bench.fleet.window import Window

PLACES = {
    "laptop": {"home": 0.4, "office": 0.85, "way": 0.15, "trip": 0.55, "flight": 1.0},
    "tablet": {"home": 0.15, "office": 0.1, "way": 0.3, "trip": 0.4, "flight": 0.0},
    "home": {"home": 0.6},
    "office": {"office": 0.9},
}
"""How often a device is used in a stay at each place."""
AWAY_ON_MOBILE = {"laptop": 0.15, "tablet": 0.6}
"""The share of use on the person's own mobile network, at home or abroad: there it comes out in the home country."""


class Habits(NamedTuple):
    """How this vendor's program behaves: seconds between heartbeats, and whether an end gives the seat back."""

    heartbeat: float
    gives_back: bool = False
    restarts: float = 0.25


def use_of(  # noqa: PLR0913 - who, with what, how, when, how often
    dice: Dice, person: Person, device: Device, habits: Habits, window: Window, *, busy: float = 1
) -> list[Intent]:
    """Return what one device of a person asks for. `busy` scales how often it is used."""
    shares = PLACES[device.where]
    intents: list[Intent] = []
    for day in range(window.days):
        for stay in person.stays(dice, window.start + day * DAY, day):
            if dice.chance(shares.get(stay.place, 0.0) * busy):
                intents += session(dice, person, device, stay, habits)
    return [intent for intent in intents if window.start <= intent.time < window.end]


def session(dice: Dice, person: Person, device: Device, stay: Stay, habits: Habits) -> Iterator[Intent]:
    """Yield one run of the program within a stay."""
    length = stay.end - stay.start
    begin = stay.start + dice.random() * length * 0.4
    end = min(stay.end, begin + 0.3 * HOUR + dice.spread(3.5 * HOUR))
    first, later = _networks(dice, person, device, stay)
    yield Intent(begin, "start", device, first)
    beat = begin + habits.heartbeat * dice.uniform(0.9, 1.1)
    while beat < end:
        if dice.chance(habits.restarts):
            yield Intent(beat + dice.random() * MINUTE, "start", device, later)
        else:
            yield Intent(beat, "heartbeat", device, dice.choice((first, later)) if dice.chance(0.1) else later)
        beat += habits.heartbeat
    if habits.gives_back and dice.chance(0.95):
        yield Intent(end, "deactivate", device, later)


def _networks(dice: Dice, person: Person, device: Device, stay: Stay) -> tuple[Network, Network]:
    """Choose the network at the start, and the one a little later: a VPN comes up, a phone lends its network."""
    here = (
        person.carrier
        if dice.chance(AWAY_ON_MOBILE.get(device.where, 0.0)) and stay.place != "flight"
        else stay.network
    )
    if person.vpn and device.where in {"laptop", "home"} and dice.chance(person.vpn_share):
        out = person.vpn[person.exit if dice.chance(0.88) else dice.choice(list(person.vpn))]
        return (here if dice.chance(0.5) else out), out
    if device.where == "laptop" and dice.chance(0.06):
        return here, person.carrier
    return here, here


def always_on(dice: Dice, device: Device, network: Network, habits: Habits, window: Window) -> Iterator[Intent]:
    """Yield what a machine asks for that is never switched off: heartbeats, and a start each day or so."""
    time = window.start + dice.random() * DAY
    yield Intent(time, "start", device, network)
    next_start = time + DAY
    while time < window.end:
        if time >= next_start:
            yield Intent(time, "start", device, network)
            next_start = time + dice.uniform(0.9, 1.1) * DAY
        else:
            yield Intent(time, "heartbeat", device, network)
        time += habits.heartbeat * dice.uniform(0.98, 1.02)
