"""Reseller rotation: ever more new devices get a seat, beyond what such a licence does.

Ordinary life: a device is replaced or reimaged now and then; the first devices fill the seats; floating seats have
several people each; machines of a CI give their seat back within the hour, which takes back what they counted.
"""

from __future__ import annotations

from domain.anomalies.findings import NOTHING, grade
from domain.anomalies.state import Device, LicenseState, decayed
from domain.anomalies.thresholds import DAY, Thresholds

FULL_WEIGHT = 100
"""Weight of a party beyond the seats, in hundredths."""


def accept(state: LicenseState, device: Device, now: int, *, is_job: bool, thresholds: Thresholds) -> int:
    """Take note of a new device that got a seat; return the rank of the growth."""
    weight = 0 if is_job else _weight(state, now, is_stranger=device.is_stranger, thresholds=thresholds)
    state.accepted += 1
    state.parties += device.is_stranger
    if not weight:
        return NOTHING
    device.weight = weight
    state.rotation = _now(state, now, thresholds) + weight / 100
    state.rotation_at = now
    return grade(state.rotation, limit(state, thresholds))


def _weight(state: LicenseState, now: int, *, is_stranger: bool, thresholds: Thresholds) -> int:
    people = state.max_devices * (thresholds.floating_people_per_seat if state.floating else 1)
    if not is_stranger:
        if state.accepted < people or now - state.linked_at < thresholds.rotation_linked_pause_seconds:
            return 0
        state.linked_at = now
        return thresholds.rotation_linked
    if state.parties >= people:
        return FULL_WEIGHT
    if now - state.first < thresholds.rotation_settling_seconds * (thresholds.fresh_factor if state.is_fresh else 1):
        return 0
    if state.floating or now - state.released_at > thresholds.rotation_release_seconds:
        return thresholds.rotation_growth
    return thresholds.rotation_release


def take_back(state: LicenseState, device: Device, now: int, thresholds: Thresholds) -> None:
    """Forget that a device counted: it gave its seat back at once, or turned out to belong to the others."""
    state.rotation = max(0.0, _now(state, now, thresholds) - device.weight / 100)
    state.rotation_at = max(now, state.rotation_at)
    device.weight = 0


def _now(state: LicenseState, now: int, thresholds: Thresholds) -> float:
    return decayed(state.rotation, state.rotation_at, now, thresholds.rotation_half_life_seconds)


def limit(state: LicenseState, thresholds: Thresholds) -> float:
    """Return how many new devices beyond the ordinary are an alert for this licence."""
    return float(thresholds.rotation_strangers + thresholds.rotation_root_of_seats * state.max_devices**0.5)


def explain(state: LicenseState, thresholds: Thresholds) -> str:
    """Say it in one sentence."""
    days = thresholds.rotation_half_life_seconds // DAY
    kind = "floating seats" if state.floating else "seats"
    return (
        f"New devices keep getting seats: {state.accepted} devices of {state.parties} unconnected parties so far on a"
        f" licence with {state.max_devices} {kind}, about {round(state.rotation)} of them within {days} days beyond"
        " what is usual."
    )
