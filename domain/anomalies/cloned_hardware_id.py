"""Cloned hardware id: one id goes back and forth between networks as no single machine does.

Ordinary life: a laptop stays for hours at each place; a VPN is switched on and off again; a telephone's network changes
with each connection, so that only the other network is returned to. A clone's networks are all returned to, in turn.

The best evidence is the rhythm of heartbeats. A program that moves from network to network keeps its own, or begins a
new one with a validation there; two programs have two, so that one's heartbeats come too early for the other.
"""

from __future__ import annotations

from enum import Enum

from domain.anomalies.findings import NOTHING, grade
from domain.anomalies.scene import Scene
from domain.anomalies.state import Device, decayed
from domain.anomalies.thresholds import Thresholds
from domain.anomalies.words import counted, span

NETWORKS_KEPT = 5
_LONGEST_PACE = 0xFFFF
"""Heartbeats further apart, in seconds, are no rhythm."""


class Timing(Enum):
    """What the time of an observation says: nothing, that one program kept its rhythm, or that there are two."""

    UNKNOWN = 0
    KEPT = 1
    CLASH = 2


def keep_time(device: Device, scene: Scene, thresholds: Thresholds) -> Timing:
    """Take note of a heartbeat, or of what begins a new rhythm; return what its time says.

    What is learned is a short pause rather than the mean, so that a program without a rhythm clashes with nothing.
    """
    if not scene.network:
        return Timing.UNKNOWN
    place = scene.network & 0xFFFF or 1
    if scene.seen.type != "device.heartbeat":
        device.started = True
        return Timing.UNKNOWN
    gap, timing = scene.now - device.beat, Timing.UNKNOWN
    early = thresholds.clone_early_share * device.pace
    if place != device.beat_network:
        if gap < early:
            timing = Timing.CLASH
        elif gap < 2 * early:
            timing = Timing.KEPT
    elif not device.started and 0 < gap <= _LONGEST_PACE:
        slower = device.pace + 1 + device.pace // 32 if device.pace else gap
        device.pace = min(gap, slower) if gap >= device.pace else max(gap, device.pace // 2)
    device.beat, device.beat_network, device.started = scene.now, place, False
    return timing


def move(  # noqa: PLR0913 - a device, two networks and what is known of them
    device: Device, network: int, now: int, *, timing: Timing, is_far: bool, is_shared: bool, thresholds: Thresholds
) -> tuple[bool, int]:
    """Take note of a device in another network than before; return whether it counts, and the rank of its moves.

    `timing` is that of the observation. `is_far`: nobody could have got from the one to the other in that time.
    `is_shared`: other devices of the licence use both networks, which are lines of one office then.
    """
    left_at = device.networks.pop(network, None)
    device.networks[device.network] = device.last
    if len(device.networks) > NETWORKS_KEPT:
        del device.networks[min(device.networks, key=device.networks.__getitem__)]
    if is_shared or timing is Timing.KEPT:
        return False, NOTHING
    if left_at is None or now - left_at > thresholds.clone_return_seconds:
        if not device.pace:
            # Where a pool of addresses is used, most moves are no returns.
            device.returns = max(0, device.returns - thresholds.clone_no_return)
        return False, NOTHING
    if network == device.returned_to and timing is not Timing.CLASH:
        return False, NOTHING
    if now - device.returns_at < thresholds.clone_pause_seconds:
        return False, NOTHING
    returns = decayed(device.returns, device.returns_at, now, thresholds.clone_half_life_seconds)
    device.returned_to, device.returns_at = network, now
    device.returns = int(returns) + _weight(device, network, timing=timing, is_far=is_far, thresholds=thresholds)
    if now - device.first < thresholds.clone_settling_seconds and device.returns >= thresholds.clone_returns:
        device.is_restless = True
    usual = thresholds.clone_restless_factor if device.is_restless else 1
    return True, grade(device.returns, usual * thresholds.clone_returns)


def _weight(device: Device, network: int, *, timing: Timing, is_far: bool, thresholds: Thresholds) -> int:
    if timing is Timing.CLASH:
        weight = thresholds.clone_clash_far if is_far else thresholds.clone_clash
    elif device.pace:
        weight = thresholds.clone_in_time
    else:
        weight = thresholds.clone_far if is_far else 100
    # A device with two address families uses both at once, at one place.
    is_other_family = (network ^ device.network) & 1
    return weight * thresholds.clone_other_family // 100 if is_other_family else weight


def explain(device: Device, timing: Timing, thresholds: Thresholds) -> str:
    """Say it in one sentence."""
    networks = len(device.networks) + 1
    if timing is Timing.CLASH:
        pause = counted(max(1, device.pace // 60), "minute")
        return (
            f"One hardware id is used from {networks} networks at once: between heartbeats from one,"
            f" {pause} apart, come those from another, as of several machines with one id."
        )
    return (
        f"One hardware id goes back and forth between {networks} networks, each time within"
        f" {span(thresholds.clone_return_seconds)}, as several machines with the same id do."
    )
