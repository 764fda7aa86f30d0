"""A licence of the fleet, with all that will be asked of it, and what is known of its abuse."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.fleet.devices import Device
from bench.fleet.intents import Intent
from bench.fleet.networks import Network
from bench.fleet.people import Person
from bench.fleet.places import City


@dataclass
class Member:
    """A person who uses the licence, with the person's devices."""

    person: Person
    devices: list[Device]


@dataclass
class Abuse:
    """What is done to a licence or from an address. `started` and `ended` become known as it is served."""

    kind: str
    variant: str
    ip: str | None = None
    started: float | None = None
    ended: float | None = None
    events: int = 0

    def note(self, time: float) -> None:
        """Count an event of it."""
        self.started = time if self.started is None else min(self.started, time)
        self.ended = time if self.ended is None else max(self.ended, time)
        self.events += 1


@dataclass
class Licence:
    """Terms, members, and requests. Times in seconds since 1970; `expires_at` None is perpetual.

    `changed`: devices came or went, so that a seat may still be held by an old one.
    """

    license_id: str
    sort: str
    city: City
    max_devices: int
    floating: bool
    issued_at: float
    expires_at: float | None = None
    office: Network | None = None
    members: list[Member] = field(default_factory=list)
    known_devices: list[Device] = field(default_factory=list)
    intents: list[Intent] = field(default_factory=list)
    abuse: Abuse | None = None
    changed: bool = False
    first_terms: tuple[int, float | None] = (0, None)

    @property
    def devices(self) -> list[Device]:
        """All devices of its members."""
        return [device for member in self.members for device in member.devices]
