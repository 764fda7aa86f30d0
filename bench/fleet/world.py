"""What all parts of a fleet share: the window, the vendor's ways, the internet, and the offices of whole houses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from bench.fleet.devices import Makers, Releases
from bench.fleet.licence import Licence
from bench.fleet.networks import Internet, Network
from bench.fleet.people import Person, make_person
from bench.fleet.places import CITIES, WEIGHTS, City
from bench.fleet.seeds import DAY, MINUTE, Dice
from bench.fleet.sessions import Habits
from bench.fleet.window import Window

FIRST_MONDAY = 1772409600.0
"""2026-03-02, 00:00 UTC."""


class Style(NamedTuple):
    """How this vendor's history looks; drawn for each fleet, so that nothing is tuned to one of them.

    `from_the_start`: the first activation of every device is in it; else most devices were active before.
    `administrative`: it has the facts about licences (issued, updated), not only uses and seats.
    `terms_at_end`: `licenses.jsonl` shows the terms at the end of the window; else those at its start.
    """

    heartbeat: float
    restarts: float
    share_with_clock: float
    from_the_start: bool
    administrative: bool
    terms_at_end: bool
    several_lines: bool


@dataclass
class World:
    """The shared parts. `shared_offices`: houses where many customers sit behind one address."""

    dice: Dice
    style: Style
    window: Window
    habits: Habits
    internet: Internet
    makers: Makers
    shared_offices: list[tuple[City, Network]] = field(default_factory=list)

    def city(self, dice: Dice) -> City:
        """Draw where a customer is."""
        return dice.choices(CITIES, WEIGHTS)[0]

    def office(self, dice: Dice, city: City) -> Network:
        """Make an office; one in fifty spreads its traffic over two lines, where this fleet has such."""
        return self.internet.office(city, lines=2 if self.style.several_lines and dice.chance(0.02) else 1)

    def person(self, dice: Dice, city: City, office: Network | None, travels: float) -> Person:
        """Make a person who goes on so many journeys in 45 days, on average."""
        return make_person(dice, self.internet, city, office, self.window, travels=travels)

    def blank(self, dice: Dice, sort: str, city: City, max_devices: int, *, floating: bool = False) -> Licence:
        """Make a licence without members. One in ten is sold within the window."""
        window = self.window
        issued_at = window.start - dice.uniform(20, 700) * DAY
        if dice.chance(0.1):
            issued_at = window.start + dice.uniform(0.5, window.days - 3) * DAY
        elif self.style.from_the_start:
            issued_at = window.start + dice.uniform(0, 300) * MINUTE
        return Licence(dice.uuid(), sort, city, max_devices, floating, issued_at)


def make_world(seed: int, days: int) -> World:
    """Make the shared parts of the fleet of that seed."""
    dice = Dice("fleet", seed)
    style = Style(
        heartbeat=dice.uniform(45, 75) * MINUTE,
        restarts=dice.uniform(0.15, 0.4),
        share_with_clock=dice.choice((0.6, 0.9, 1.0)),
        from_the_start=dice.chance(0.5),
        administrative=dice.chance(0.7),
        terms_at_end=dice.chance(0.5),
        several_lines=dice.chance(0.5),
    )
    window = Window(FIRST_MONDAY + 7 * DAY * dice.randrange(40), days)
    releases = Releases(dice.of("releases"), window.start, days)
    world = World(
        dice=dice,
        style=style,
        window=window,
        habits=Habits(style.heartbeat, restarts=style.restarts),
        internet=Internet(dice.of("internet")),
        makers=Makers(releases, style.share_with_clock),
    )
    for number in range(4):
        house = dice.of("house", number)
        city = world.city(house)
        world.shared_offices.append((city, world.internet.office(city)))
    return world
