"""People: where they are at which time, and on which network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.fleet.networks import Internet, Network
from bench.fleet.places import CITIES, WEIGHTS, City, journey_seconds
from bench.fleet.seeds import DAY, HOUR, Dice
from bench.fleet.window import Window

NEIGHBOURS = {"Strasbourg": "DE", "Zurich": "DE", "Cologne": "NL", "Brussels": "FR", "Vienna": "DE", "Lyon": "CH"}
"""Near a border a phone is often on the other country's network."""


class Stay(NamedTuple):
    """A person is at one place, from `start` to `end` (seconds since 1970)."""

    start: float
    end: float
    place: str
    network: Network


class Trip(NamedTuple):
    """A journey: on the way from `leaves` to `arrives`, back from `starts_back` to `is_back`."""

    leaves: float
    arrives: float
    starts_back: float
    is_back: float
    city: City
    hotel: Network
    in_flight: Network | None


@dataclass
class Person:
    """Somebody with a home, perhaps an office, and habits. `vpn` exits by country; `exit` is the favourite."""

    city: City
    home: Network
    carrier: Network
    office: Network | None
    office_share: float
    rises: float
    weekend_share: float
    absent: set[int] = field(default_factory=set)
    trips: list[Trip] = field(default_factory=list)
    vpn: dict[str, Network] = field(default_factory=dict)
    exit: str = ""
    vpn_share: float = 0.0

    def stays(self, dice: Dice, midnight: float, day: int) -> Iterator[Stay]:
        """Yield where the person is on a day (`midnight`: in UTC), in order but for days of travel."""
        for trip in self.trips:
            yield from _on_the_way(trip, midnight)
        if day in self.absent:
            return
        for stay in self._at_home_base(dice, midnight - self.city.utc_offset * HOUR, weekend=day % 7 >= 5):  # noqa: PLR2004 - Saturday
            if not any(stay.end > trip.leaves and stay.start < trip.is_back for trip in self.trips):
                yield stay

    def _at_home_base(self, dice: Dice, midnight: float, *, weekend: bool) -> Iterator[Stay]:
        if weekend and not dice.chance(self.weekend_share):
            return
        first = midnight + (self.rises + dice.gauss(0, 0.4)) * HOUR
        if self.office and not weekend and dice.chance(self.office_share):
            yield Stay(first - 1.2 * HOUR, first - 0.9 * HOUR, "home", self.home)
            yield Stay(first - 0.8 * HOUR, first - 0.1 * HOUR, "way", self.carrier)
            yield Stay(first, first + 8.5 * HOUR, "office", self.office)
            yield Stay(first + 8.6 * HOUR, first + 9.3 * HOUR, "way", self.carrier)
            yield Stay(first + 10.5 * HOUR, first + 13 * HOUR, "home", self.home)
        else:
            yield Stay(first, first + 8 * HOUR, "home", self.home)
            if dice.chance(0.2):
                yield Stay(first + 8.2 * HOUR, first + 9.5 * HOUR, "way", self.carrier)
            yield Stay(first + 10 * HOUR, first + 13 * HOUR, "home", self.home)


def _on_the_way(trip: Trip, midnight: float) -> Iterator[Stay]:
    if trip.in_flight and midnight <= trip.leaves < midnight + DAY:
        yield Stay(trip.leaves + 2 * HOUR, trip.arrives - 0.7 * HOUR, "flight", trip.in_flight)
    local = midnight - trip.city.utc_offset * HOUR
    for start, end in ((7.5, 9.0), (9.5, 17.5), (19.0, 23.0)):
        clipped = max(local + start * HOUR, trip.arrives), min(local + end * HOUR, trip.starts_back)
        if clipped[1] - clipped[0] > HOUR / 2:
            yield Stay(*clipped, "trip", trip.hotel)


def make_person(  # noqa: PLR0913 - who one is takes more than five words
    dice: Dice, internet: Internet, city: City, office: Network | None, window: Window, *, travels: float
) -> Person:
    """Make a person with habits and journeys. `travels`: journeys in 45 days, on average."""
    days = window.days
    near = NEIGHBOURS.get(city.name)
    carrier = internet.carrier(near if near and dice.chance(0.15) else city.country)
    person = Person(
        city=city,
        home=internet.home(city),
        carrier=carrier,
        office=office,
        office_share=dice.choice((0.4, 0.6, 0.8, 1.0)),
        rises=dice.gauss(8.6, 0.9),
        weekend_share=dice.choice((0.05, 0.1, 0.5)),
    )
    if dice.chance(0.12):
        person.vpn = internet.vpn()
        person.exit = dice.choice(list(person.vpn))
        person.vpn_share = dice.choice((0.05, 0.15, 0.4, 0.9))
    for _ in range(dice.count(travels * days / 45)):
        _add_trip(dice, internet, person, window)
    if dice.chance(0.3):
        first = dice.randrange(days)
        person.absent.update(range(first, first + dice.choice((2, 5, 7, 12))))
    return person


def _add_trip(dice: Dice, internet: Internet, person: Person, window: Window) -> None:
    city = dice.choices(CITIES, WEIGHTS)[0]
    leaves = window.start + (dice.randrange(window.days) + dice.uniform(0.2, 0.7)) * DAY
    journey = journey_seconds(person.city, city)
    arrives = leaves + journey
    starts_back = arrives + dice.choice((1, 2, 2, 3, 4, 7, 13)) * DAY + dice.uniform(-6, 6) * HOUR
    apart = all(starts_back + journey + DAY < trip.leaves or leaves - DAY > trip.is_back for trip in person.trips)
    if city is person.city or not apart:
        return
    in_flight = dice.choice(internet.in_flight) if dice.chance(0.1) and journey > 5 * HOUR else None
    person.trips.append(
        Trip(leaves, arrives, starts_back, starts_back + journey, city, internet.hotel(city), in_flight)
    )
