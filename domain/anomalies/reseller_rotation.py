"""Reseller rotation: ever more new devices get a seat, beyond what such a licence does.

Ordinary life: a device is replaced or reimaged now and then; the first devices fill the seats; floating seats have
several people each; machines of a CI give their seat back within the hour, which takes back what they counted; virtual
desktops have a new hardware id for each session, all in one place.
"""

from __future__ import annotations

from domain.anomalies.findings import NOTHING, grade
from domain.anomalies.state import Device, LicenseState, decayed
from domain.anomalies.thresholds import Thresholds
from domain.anomalies.words import counted, span

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
        return _weight_of_linked(state, people, now, thresholds)
    if state.parties >= people:
        return FULL_WEIGHT
    if now - state.first < thresholds.rotation_settling_seconds * (thresholds.fresh_factor if state.is_fresh else 1):
        return 0
    if state.floating or now - state.released_at > thresholds.rotation_release_seconds:
        return thresholds.rotation_growth
    return thresholds.rotation_release


def _weight_of_linked(state: LicenseState, people: int, now: int, thresholds: Thresholds) -> int:
    # Desktops may be made anew for each session, in the one place where a floating licence is used.
    is_one_place = state.floating and state.parties <= 1
    is_pause = now - state.linked_at < thresholds.rotation_linked_pause_seconds
    if is_one_place or is_pause or state.accepted < people:
        return 0
    state.linked_at = now
    return thresholds.rotation_linked


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
    kind = "floating seat" if state.floating else "seat"
    lately = span(thresholds.rotation_half_life_seconds)
    return (
        f"New devices keep getting seats: {state.accepted} devices of {state.parties} unconnected parties so far on a"
        f" licence with {counted(state.max_devices, kind)}, about {round(state.rotation)} of them within {lately}"
        " beyond what is usual."
    )
