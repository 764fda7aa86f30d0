"""Cloned hardware id: one id goes back and forth between networks as no single machine does.

Ordinary life: a laptop stays for hours at each place; a VPN is switched on and off again; a telephone's network changes
with each connection, so that only the other network is returned to. A clone's networks are all returned to, in turn.
"""

from __future__ import annotations

from domain.anomalies.findings import NOTHING, grade
from domain.anomalies.state import Device, decayed
from domain.anomalies.thresholds import Thresholds

NETWORKS_KEPT = 5


def move(  # noqa: PLR0913 - a device, two networks and what is known of them
    device: Device, network: int, now: int, *, is_far: bool, is_shared: bool, thresholds: Thresholds
) -> tuple[bool, int]:
    """Take note of a device in another network than before; return whether it counts, and the rank of its moves.

    `is_far`: nobody could have got from the one to the other in that time. `is_shared`: other devices of the licence
    use both networks, which are lines of one office then.
    """
    left_at = device.networks.pop(network, None)
    device.networks[device.network] = device.last
    if len(device.networks) > NETWORKS_KEPT:
        del device.networks[min(device.networks, key=device.networks.__getitem__)]
    if is_shared:
        return False, NOTHING
    if left_at is None or now - left_at > thresholds.clone_return_seconds:
        # Where a pool of addresses is used, most moves are no returns.
        device.returns = max(0, device.returns - thresholds.clone_no_return)
        return False, NOTHING
    if network == device.returned_to or now - device.returns_at < thresholds.clone_pause_seconds:
        return False, NOTHING
    returns = decayed(device.returns, device.returns_at, now, thresholds.clone_half_life_seconds)
    device.returned_to, device.returns_at = network, now
    # A device with two address families uses both at once, at one place.
    near = thresholds.clone_other_family if (network ^ device.network) & 1 else 100
    device.returns = int(returns) + (thresholds.clone_far if is_far else near)
    if now - device.first < thresholds.clone_settling_seconds and device.returns >= thresholds.clone_returns:
        device.is_restless = True
    usual = thresholds.clone_restless_factor if device.is_restless else 1
    return True, grade(device.returns, usual * thresholds.clone_returns)


def explain(device: Device, thresholds: Thresholds) -> str:
    """Say it in one sentence."""
    hours = thresholds.clone_return_seconds // 3600
    return (
        f"One hardware id goes back and forth between {len(device.networks) + 1} networks, each time within {hours}"
        " hours, as several machines with the same id do."
    )
