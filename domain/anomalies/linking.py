"""Who belongs together: devices that were seen in one network are one party, such as a household or an office.

A licence's seats are for parties that know each other. A device from a network where no other device of the licence
has been is a stranger, until it is seen in one of theirs.
"""

from __future__ import annotations

import sys

from domain.anomalies.state import DEPARTED, DEVICES, NETWORKS, Device, LicenseState, Network

_GROUPS = 60_000
"""Numbers of groups begin again after so many; by then the first are long forgotten."""


def arrive(state: LicenseState, name: int, network: int, now: int) -> tuple[int, bool]:
    """Find the party of a new device by its network; return it, and whether it had to be made."""
    known = state.networks.get(network)
    if known is not None:
        _use(known, name, now)
        return known.group, False
    group = state.next_group
    state.next_group = group % _GROUPS + 1
    _remember(state, name, network, group, now)
    return group, True


def follow(state: LicenseState, name: int, device: Device, now: int) -> list[Device]:
    """Take note of a device in another network than before; return the devices that turned out to belong to others."""
    known = state.networks.get(device.network)
    if known is None:
        _remember(state, name, device.network, device.group, now)
        return []
    _use(known, name, now)
    if known.group == device.group:
        return []
    return _merge(state, known.group, device.group)


def forget(state: LicenseState, tag: int) -> None:
    """Forget a device, and its network where no other device was seen in."""
    device = state.devices.pop(tag)
    if all(other.group != device.group for other in state.devices.values()):
        state.networks = {key: network for key, network in state.networks.items() if network.group != device.group}


def is_departed(state: LicenseState, name: int) -> bool:
    """Tell whether a device had a seat before it was forgotten."""
    return _short(name) in memoryview(state.departed).cast("H")


def is_exclusive(state: LicenseState, network: int, name: int) -> bool:
    """Tell whether no other device of the licence was seen in a network."""
    known = state.networks.get(network)
    return known is None or known.owner == _short(name)


def _short(name: int) -> int:
    return name & 0xFFFF or 1


def _use(network: Network, name: int, now: int) -> None:
    network.last = now
    if network.owner != _short(name):
        network.owner = 0


def _remember(state: LicenseState, name: int, network: int, group: int, now: int) -> None:
    if len(state.networks) >= NETWORKS:
        del state.networks[min(state.networks, key=lambda tag: state.networks[tag].last)]
    state.networks[network] = Network(group, now, _short(name))


def _merge(state: LicenseState, one: int, other: int) -> list[Device]:
    kept, gone = min(one, other), max(one, other)
    joined = [device for device in state.devices.values() if device.group == gone]
    for device in joined:
        device.group = kept
    for network in state.networks.values():
        if network.group == gone:
            network.group = kept
    for presence in state.presences.values():
        if presence.group == gone:
            presence.group = kept
    if state.holder == gone:
        state.holder = kept
    # They were no strangers after all: what they were counted for is taken back.
    state.strangers = [stranger for stranger in state.strangers if stranger.group != gone]
    state.parties = max(0, state.parties - 1)
    return joined


def keep(state: LicenseState, tag: int, device: Device) -> None:
    """Add a device. Where there is no room, the one that was unseen for longest is remembered by its tag alone."""
    if len(state.devices) >= DEVICES:
        oldest = min(state.devices, key=lambda other: state.devices[other].last)
        # A device that never got a seat is not worth remembering: whoever has a leaked key can make up many.
        if state.devices[oldest].is_accepted and not is_departed(state, oldest):
            state.departed = (state.departed + _short(oldest).to_bytes(2, sys.byteorder))[-2 * DEPARTED :]
        del state.devices[oldest]
    state.devices[tag] = device
