"""Where a request comes from: the client's address behind trusted proxies, its country, and keyed hashes of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from iptocc import country_code

from infra.places import NOT_COUNTRIES, Place, Places

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

UNKNOWN = "0.0.0.0"  # noqa: S104 - nothing is bound to it
"""Stands for the address of a client whose connection has none, such as one over a Unix socket."""
CACHED = 8192
HASH_BYTES = 16
IPV6_CUSTOMER_BITS = 64
"""Of IPv6, the least network that one customer has to himself."""

_LONGEST_ADDRESS = 45


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known about a client's address.

    `country` is ISO 3166-1 alpha-2, as GEO_DATABASE says, else as the regional registries assigned the block, or None.
    `place` is what GEO_DATABASE says. The hashes are keyed, 16 bytes each: of the address, and of its network (/24 of
    IPv4, /48 of IPv6). `limit_key` is what limits by address count by, without saying the address: IPv6 counts by /64,
    since one customer has all of it.
    """

    address: str
    country: str | None
    place: Place | None
    address_hash: bytes
    network_hash: bytes
    limit_key: str


class ClientAddress:
    """Finds the client's address. X-Forwarded-For counts only as far as trusted proxies wrote it."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        """Take the networks of the proxies that may say who their client is."""
        self._trusted = tuple(trusted)
        self._is_trusted = lru_cache(CACHED)(self._check_trusted)

    def of(self, peer: str | None, forwarded_for: str | None) -> str:
        """Give the normalised address of the client.

        `peer` is the socket's address, `forwarded_for` all values of X-Forwarded-For joined by commas. The walk goes
        from the right and ends at the first address that is no trusted proxy, or before a malformed one.
        """
        address = normalised(peer or UNKNOWN) or UNKNOWN
        if forwarded_for is None or not self._is_trusted(address):
            return address
        for entry in reversed(forwarded_for.split(",")):
            named = normalised(entry.strip())
            if named is None:
                break
            address = named
            if not self._is_trusted(address):
                break
        return address

    def _check_trusted(self, address: str) -> bool:
        parsed = ip_address(address)
        return any(parsed in network for network in self._trusted)


class Networks:
    """Describes addresses; remembers the last 8,192."""

    def __init__(self, lookup_hash: Callable[[str, str], bytes], places: Places | None = None) -> None:
        """Take the keyed hash: of a purpose (`address`, `network`) and a text, at least 16 bytes.

        `places` is the database that GEO_DATABASE names; who opened it closes it.
        """
        self._lookup_hash = lookup_hash
        self._places = places
        self.describe: Callable[[str], Origin] = lru_cache(CACHED)(self._describe)
        """Of a normalised address, as ClientAddress gives it."""

    def _describe(self, address: str) -> Origin:
        parsed = ip_address(address)
        address_hash = self._hash("address", address)
        place = self._places.of(parsed) if self._places is not None and parsed.is_global else None
        by_address = (
            address_hash
            if isinstance(parsed, IPv4Address)
            else self._hash("network", prefix(parsed, IPV6_CUSTOMER_BITS))
        )
        return Origin(
            address=address,
            country=(place.country if place else None) or country_of(parsed),
            place=place,
            address_hash=address_hash,
            network_hash=self._hash("network", prefix(parsed, 24 if isinstance(parsed, IPv4Address) else 48)),
            limit_key=by_address.hex(),
        )

    def _hash(self, purpose: str, text: str) -> bytes:
        return self._lookup_hash(purpose, text)[:HASH_BYTES]


def country_of(address: Address) -> str | None:
    """Look up which country an address was assigned to; private and loopback addresses have none."""
    if not address.is_global:
        return None
    country = country_code(str(address))
    return None if country in NOT_COUNTRIES else country


def prefix(address: Address, bits: int) -> str:
    """Write the network of so many bits that an address is in: `203.0.113.0/24`."""
    return str(ip_network((address, bits), strict=False))


def normalised(text: str) -> str | None:
    """Write an address in its one form: no zone, IPv4-mapped IPv6 as IPv4. None if it is no address."""
    if ":" in text:
        text = text.partition("%")[0]
    return _normalised(text) if len(text) <= _LONGEST_ADDRESS else None


@lru_cache(CACHED)
def _normalised(text: str) -> str | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
