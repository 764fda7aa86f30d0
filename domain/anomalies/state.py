"""What is remembered of a licence: small, bounded, and the same after it was stored and loaded.

Times are whole seconds since 1970, weights are hundredths. Hardware ids and networks are kept as tags of 32 bits,
never as text.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import msgspec
from msgspec import field

DEVICES = 20
"""Devices kept in full. The one unseen for longest goes first; its tag is kept with the departed."""
DEPARTED = 140
"""Departed devices remembered, by 16 bits each: about one stranger in 500 is taken for one of them."""
NETWORKS = 32
MOVES = 32
"""Former networks kept for all devices together."""
STRANGERS = 20
PRESENCES = 4
COUNTRIES = 8
EVIDENCE = 3
"""Ids of observations kept for each kind."""

_UUID_BYTES = 16
_UUID_TEXT = 36
_LONGEST_ID = 24


class Device(msgspec.Struct, array_like=True, gc=False):
    """A device of a licence.

    `group` is shared by devices that are linked by a network. `networks` are the last few before the present one, with
    the time when each was left. `returns` counts, decaying, how often it was back in one of them within a short time,
    each time another one (`returned_to` is the last). `beat` is when the last heartbeat came, `beat_network` from where
    (16 bits), `pace` a short pause between two of them, `started` whether anything else came since. `slot` is
    the current ten minutes (counted from 1970), `slot_count` its observations, `run` the requests beyond one a minute
    in the slots right before that were all far above `peak`, its own most. `countries` is how many it has been seen in,
    at most 2. `weight` is what it counts for in the licence's `rotation`. `os` has 16 bits of its operating system.
    """

    group: int
    first: int
    last: int
    network: int
    country: str | None = None
    countries: int = 1
    networks: dict[int, int] = field(default_factory=dict)
    returned_to: int = 0
    returns: int = 0
    returns_at: int = 0
    is_restless: bool = False
    beat: int = 0
    beat_network: int = 0
    pace: int = 0
    started: bool = False
    slot: int = 0
    slot_count: int = 0
    run: int = 0
    peak: int = 0
    is_stranger: bool = False
    is_activated: bool = False
    is_accepted: bool = False
    is_old: bool = False
    weight: int = 0
    bad_clock: bool = False
    good_clock: bool = False
    rollbacks: int = 0
    os: int = 0


class Network(msgspec.Struct, array_like=True, gc=False):
    """A network that devices of the licence were seen in; `owner` is the only one so far (16 bits), 0: several."""

    group: int
    last: int
    owner: int


class Stranger(msgspec.Struct, array_like=True, gc=False):
    """A device that came from nowhere: unknown, from a network where no device of the licence had been.

    `weight` is how much it speaks for a leaked key.
    """

    time: int
    device: int
    group: int
    weight: int


class Presence(msgspec.Struct, array_like=True, gc=False):
    """The last time somebody used the licence in a country."""

    time: int
    device: int
    group: int
    place: tuple[float, float] | None


class Alert(msgspec.Struct, array_like=True, gc=False):
    """When a kind was last told, how bad it was, and whether a person said that it is nothing."""

    time: int
    rank: int
    is_dismissed: bool = False


class Factor(msgspec.Struct, array_like=True, gc=False):
    """Risk points of a kind, as they were at a time."""

    points: float
    time: int


class Proof(msgspec.Struct, array_like=True):
    """Ids of the observations behind a kind, the newest last."""

    time: int
    ids: list[bytes]


class LicenseState(msgspec.Struct, array_like=True):
    """All that detection remembers of a licence; at most 4 KB when stored.

    `is_fresh`: what we know of it begins with its issue, or with a device that got a seat. `has_activations`: the
    history tells who got a seat. `parties` counts groups, and `accepted` devices, that ever got one; `holder` is the
    group that got the last, `awaited` an unknown device that was given one and has not shown itself since. `rotation`,
    `sharing`, `travel` and `jobs` are counters that decay, each with the time at which it had that value. `departed`
    has 16 bits of each device that was forgotten.
    """

    first: int
    max_devices: int = 1
    floating: bool = False
    expires_at: int | None = None
    expired_since: int | None = None
    is_fresh: bool = False
    next_group: int = 1
    parties: int = 0
    accepted: int = 0
    rotation: float = 0.0
    rotation_at: int = 0
    linked_at: int = 0
    jobs: float = 0.0
    jobs_at: int = 0
    jobs_os: int = 0
    released_at: int = 0
    sharing: float = 0.0
    sharing_at: int = 0
    holder: int = 0
    holder_country: str | None = None
    awaited: int = 0
    has_activations: bool = False
    travel: float = 0.0
    travel_at: int = 0
    devices: dict[int, Device] = field(default_factory=dict)
    networks: dict[int, Network] = field(default_factory=dict)
    departed: bytes = b""
    strangers: list[Stranger] = field(default_factory=list)
    presences: dict[str, Presence] = field(default_factory=dict)
    countries: dict[str, int] = field(default_factory=dict)
    alerts: dict[int, Alert] = field(default_factory=dict)
    factors: dict[int, Factor] = field(default_factory=dict)
    proofs: dict[int, Proof] = field(default_factory=dict)


class AddressState(msgspec.Struct, array_like=True):
    """What is remembered of an address that sent keys which nobody issued.

    `keys` has the tags of those keys, each with when it was last sent and the tag of the device that sent it first.
    """

    last: int
    keys: dict[int, tuple[int, int]] = field(default_factory=dict)
    more: int = 0
    alert: Alert | None = None
    ids: list[bytes] = field(default_factory=list)


def terms_of(state: LicenseState) -> LicenseState:
    """Return a state that knows what the licence allows, and nothing of who used it, when and where."""
    return LicenseState(0, max_devices=state.max_devices, floating=state.floating, expires_at=state.expires_at)


def decayed(value: float, since: int, now: int, half_life: int) -> float:
    """Return what is left of a counter that halves in `half_life` seconds."""
    return value if now <= since or value == 0.0 else value * 0.5 ** ((now - since) / half_life)


_encoder = msgspec.msgpack.Encoder()
_license_decoder = msgspec.msgpack.Decoder(LicenseState)
_address_decoder = msgspec.msgpack.Decoder(AddressState)


_FORM = b"\x01"
"""To be changed whenever fields of what is stored change in any way but by new ones at the end."""


def dumps(state: LicenseState | AddressState) -> bytes:
    """Write a state down, after the number of its form."""
    return _FORM + _encoder.encode(state)


def loads_license(stored: bytes) -> LicenseState:
    """Read a licence's state. Raises msgspec.DecodeError where it is none."""
    return _license_decoder.decode(_content(stored))


def loads_address(stored: bytes) -> AddressState:
    """Read an address's state. Raises msgspec.DecodeError where it is none."""
    return _address_decoder.decode(_content(stored))


def _content(stored: bytes) -> bytes:
    if stored[:1] != _FORM:
        # Its fields have no names: those of another form would be taken for each other.
        raise msgspec.DecodeError("the state has another form than those of this program")
    return stored[1:]


def forget_moves(state: LicenseState, mover: Device) -> None:
    """Keep to the bound on former networks: those of the device that was unseen for longest go first."""
    while sum(len(device.networks) for device in state.devices.values()) > MOVES:
        others = (device for device in state.devices.values() if device.networks and device is not mover)
        min(others, key=lambda device: device.last).networks.clear()


def packed(id: str) -> bytes:
    """Write an observation's id in few bytes: a UUID in 16, anything else as its first 24 bytes."""
    if len(id) == _UUID_TEXT:
        try:
            found = UUID(id)
        except ValueError:
            pass
        else:
            if str(found) == id:
                return found.bytes
    raw = id.encode(errors="replace")[:_LONGEST_ID]
    # A text of 16 bytes would be read as a UUID.
    return raw + b" " if len(raw) == _UUID_BYTES else raw


def unpacked(ids: Iterable[bytes]) -> tuple[str, ...]:
    """Return ids as they were, the newest first."""
    found = [str(UUID(bytes=id)) if len(id) == _UUID_BYTES else id.decode(errors="replace").rstrip() for id in ids]
    return tuple(reversed(found))


def prove(state: LicenseState, kind: int, now: int, id: str, keep_seconds: int) -> None:
    """Keep an observation's id as evidence of a kind; older evidence goes after `keep_seconds` without any."""
    proof = state.proofs.get(kind)
    if proof is None:
        proof = state.proofs[kind] = Proof(now, [])
    elif now - proof.time > keep_seconds:
        proof.ids.clear()
    proof.time = now
    proof.ids.append(packed(id))
    if len(proof.ids) > EVIDENCE:
        del proof.ids[0]
