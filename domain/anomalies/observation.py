"""What detectors see of the two logs: one form for events, validations and heartbeats."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b

import msgspec
from msgspec import UNSET, UnsetType

from domain.anomalies.countries import Place

SIGHTINGS = frozenset({"license.validated", "license.validation.failed", "device.heartbeat", "license.activated"})
"""Types whose network and country are the device's own; with other types they may be an administrator's."""

INTERACTIVE = frozenset({"license.validated", "license.activated"})
"""Types that stand for somebody who starts a program; a heartbeat goes on without anybody."""

_SERVERS = re.compile(
    "linux|ubuntu|debian|alpine|centos|rocky|alma|red hat|rhel|fedora|suse|amazon|server|container|docker",
    re.IGNORECASE,
)
_TAGS = 1 << 16
_IPV6 = b"\x06"


class LicenseTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a licence allows; a field left UNSET stays as it was. `expires_at` in seconds since 1970, None: never."""

    max_devices: int | UnsetType = UNSET
    floating: bool | UnsetType = UNSET
    expires_at: float | UnsetType | None = UNSET


class Observation(msgspec.Struct, frozen=True, gc=False):
    """One row of either log.

    `time` and `client_time` (the device's own clock) are seconds since 1970, UTC. `type` is the routing key on the
    queue. `id` names the row as evidence. `network` stands for the /24 or /48 of the sender: a text, which has a colon
    for IPv6 alone, or bytes, of which the first is the address family, 4 or 6. `address` is the sender's address where
    `license_id` is None, in any form, and `address_block` stands for all that one customer has of IPv6, a /64, where
    that is more than the address. `key_hash` is of the unknown key. `from_hardware_id` is the device that gave the
    seat in a transfer; `hardware_id` then is the one that got it.
    """

    time: float
    type: str
    id: str
    license_id: str | None = None
    hardware_id: str | None = None
    network: str | bytes | None = None
    address: str | None = None
    country: str | None = None
    place: Place | None = None
    app_version: str | None = None
    os: str | None = None
    reason: str | None = None
    client_time: float | None = None
    key_hash: str | None = None
    operation: str | None = None
    from_hardware_id: str | None = None
    terms: LicenseTerms | None = None
    address_block: str | None = None


@lru_cache(_TAGS)
def tag(name: str | bytes) -> int:
    """Shorten a name to 32 bits, the same in every process.

    Two names of one licence share a tag about once in a billion; one of them then passes for the other, which an
    attacker can have more cheaply by sending the other's name.
    """
    raw = name.encode(errors="surrogatepass") if isinstance(name, str) else name
    return int.from_bytes(blake2b(raw, digest_size=4).digest(), "big")


def os_tag(os: str | None) -> int:
    """Shorten an operating system to 16 bits; 0 where it is not known."""
    return 0 if os is None else tag(os) & 0xFFFF or 1


@lru_cache(1024)
def is_server(os: str | None) -> bool:
    """Tell whether an operating system is one that machines of a CI have, which come and go by themselves."""
    return os is not None and _SERVERS.search(os) is not None


@lru_cache(_TAGS)
def network_tag(network: str | bytes) -> int:
    """Shorten a network to 32 bits; those of IPv6 are odd, all others even.

    A text is of IPv6 where it has a colon; bytes, such as a keyed hash, where the first of them is 6.
    """
    is_ipv6 = ":" in network if isinstance(network, str) else network[:1] == b"\x06"
    return (tag(network) & ~1) | is_ipv6
