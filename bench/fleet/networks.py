"""Networks and the addresses they show to a server. A network has one country, that of its addresses."""

from __future__ import annotations

from math import inf

from bench.fleet.places import CITIES, COUNTRIES, City
from bench.fleet.seeds import DAY, HOUR, Dice

EXITS_PER_COUNTRY = 2
RESERVED = {10, 100, 127, 169, 172, 192, 198, 203}


class Network:
    """What a device can be connected to.

    `prefixes` are first parts of addresses; one address is kept for `hold` seconds (0: a new one at each use).
    """

    __slots__ = ("_dice", "_kept", "_phase", "_prefixes", "country", "hold", "hosts")

    def __init__(self, dice: Dice, country: str, prefixes: tuple[str, ...], hold: float, hosts: int = 250) -> None:
        self.country = country
        self.hold = hold
        self.hosts = hosts
        self._dice = dice
        self._phase = dice.random() * DAY
        self._prefixes = prefixes
        self._kept: dict[int, str] = {}

    def address(self, time: float) -> str:
        """Return the address that a server sees at that time (seconds since 1970)."""
        if not self.hold:
            return self._draw()
        period = 0 if self.hold == inf else int((time + self._phase) // self.hold)
        if period not in self._kept:
            self._kept[period] = self._draw()
        return self._kept[period]

    def pinned(self, time: float) -> Network:
        """Return this network as one connection sees it that is kept: with the address it has at that time."""
        one = Network(self._dice, self.country, self._prefixes, inf)
        one._kept[0] = self.address(time)
        return one

    def _draw(self) -> str:
        prefix = self._dice.choice(self._prefixes)
        if ":" in prefix:
            return f"{prefix}:{self._dice.hex(4)}:{self._dice.hex(4)}:{self._dice.hex(4)}:1"
        return f"{prefix}.{1 + self._dice.randrange(self.hosts)}"


class Internet:
    """All networks of a fleet: providers, carriers, VPNs and clouds are shared; homes and offices are made as asked."""

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self._blocks: set[str] = set()
        self._providers = {city.name: [self._blocks_of(6) for _ in range(3)] for city in CITIES}
        self._carriers = {
            country: [self._network("carrier", country, self._blocks_of(12), 0, 60) for _ in range(2)]
            for country in COUNTRIES
        }
        self._vpns = [
            {
                country: self._network("vpn", country, self._blocks_of(1), 3 * HOUR, EXITS_PER_COUNTRY)
                for country in ("DE", "NL", "GB", "US", "CH", "SE", "SG", "FR", "CA", "JP")
            }
            for _ in range(3)
        ]
        self._clouds = [
            self._network("cloud", country, self._blocks_of(40), 0) for country in ("DE", "US", "US", "NL", "SG")
        ]
        self.in_flight = [self._network("in-flight", country, self._blocks_of(2), 0) for country in ("US", "CH")]

    def home(self, city: City) -> Network:
        """Make a household's line: re-dialled daily, weekly or hardly ever; some with IPv6."""
        dice = self._dice
        if dice.chance(0.15):
            return self._network("home", city.country, (f"{self._block6()}:{dice.hex(4)}",), 1 * DAY)
        pool = tuple(dice.choice(self._providers[city.name]))
        hold = dice.choice((DAY, DAY, 9 * DAY, 30 * DAY, inf))
        return self._network("home", city.country, pool if hold == DAY else (dice.choice(pool),), hold)

    def office(self, city: City, *, lines: int = 1) -> Network:
        """Make an office behind one fixed address, or one that spreads its traffic over several lines."""
        return self._network(
            "office", city.country, self._blocks_of(lines), inf if lines == 1 else 0, 1 if lines > 1 else 250
        )

    def hotel(self, city: City) -> Network:
        """Make a guest network: a hotel, a café, a customer's."""
        return self._network("hotel", city.country, self._blocks_of(1), 2 * DAY)

    def cloud_account(self, *, fixed: bool) -> Network:
        """Make a cloud account's way out: one fixed address, or whatever its machines get."""
        cloud = self._dice.choice(self._clouds)
        return self._network("nat", cloud.country, self._blocks_of(1), inf) if fixed else cloud

    def cloud_gateway(self) -> Network:
        """Make a cloud account's way out over a few addresses by turns, in different networks."""
        return self._network("gateway", self._dice.choice(self._clouds).country, self._blocks_of(3), 0, 1)

    def carrier(self, country: str) -> Network:
        """Return a mobile network: many addresses, changing at each use, each shared by many people."""
        return self._dice.choice(self._carriers[country])

    def vpn(self) -> dict[str, Network]:
        """Return a commercial VPN's exits by country: few addresses for all its customers."""
        return self._dice.choice(self._vpns)

    def _network(self, kind: str, country: str, prefixes: tuple[str, ...], hold: float, hosts: int = 250) -> Network:
        return Network(self._dice.of(kind, self._dice.hex(8)), country, prefixes, hold, hosts)

    def _blocks_of(self, number: int) -> tuple[str, ...]:
        return tuple(self._block() for _ in range(number))

    def _block(self) -> str:
        while True:
            block = f"{self._dice.randint(20, 220)}.{self._dice.randrange(256)}.{self._dice.randrange(256)}"
            if block not in self._blocks and int(block.split(".", maxsplit=1)[0]) not in RESERVED:
                self._blocks.add(block)
                return block

    def _block6(self) -> str:
        return f"2a0{self._dice.randrange(1, 10)}:{self._dice.hex(4)}:{self._dice.hex(4)}"
