"""Credential sharing: a seat goes from hand to hand between devices that share no network.

Ordinary life: a device is replaced, once; somebody moves the one seat between two machines of their own, which meet in
a network at home; floating seats are made for being passed on.
"""

from __future__ import annotations

from domain.anomalies.findings import NOTHING, grade
from domain.anomalies.state import Device, LicenseState, decayed
from domain.anomalies.thresholds import Thresholds
from domain.anomalies.words import span


def take_seat(state: LicenseState, device: Device, now: int, thresholds: Thresholds) -> tuple[bool, int]:
    """Take note of a device that gets a seat, or that uses the only one; return whether it counts, and its rank.

    It counts when the seat comes back to a device that had one before, after another party had it.
    """
    previous, state.holder = state.holder, device.group
    previous_country, state.holder_country = state.holder_country, device.country
    if state.floating or not previous or previous == device.group or not device.is_accepted:
        return False, NOTHING
    state.sharing = decayed(state.sharing, state.sharing_at, now, thresholds.sharing_half_life_seconds)
    is_far = None not in {device.country, previous_country} and device.country != previous_country
    state.sharing += thresholds.sharing_far if is_far else thresholds.sharing_near
    state.sharing_at = now
    return True, grade(state.sharing, thresholds.sharing_returns)


def explain(state: LicenseState, thresholds: Thresholds) -> str:
    """Say it in one sentence."""
    seats = "one seat" if state.max_devices == 1 else f"{state.max_devices} seats"
    return (
        f"Devices that share no network pass {seats} back and forth: again and again within"
        f" {span(thresholds.sharing_half_life_seconds)} a seat went back to a device that had given it up."
    )
