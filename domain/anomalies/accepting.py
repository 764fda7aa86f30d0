"""Seats: who gets one, who gives one back, and what that says about strangers."""

from __future__ import annotations

from domain.anomalies import leaked_key, reseller_rotation
from domain.anomalies.findings import NOTHING
from domain.anomalies.impossible_travel import is_new
from domain.anomalies.linking import forget
from domain.anomalies.observation import is_server, os_tag
from domain.anomalies.reseller_rotation import FULL_WEIGHT
from domain.anomalies.scene import Scene
from domain.anomalies.state import Device, LicenseState, Stranger, decayed
from domain.anomalies.thresholds import Thresholds


def refuse(scene: Scene, device: Device, thresholds: Thresholds) -> int:
    """Take note of a stranger who was refused; return the rank of all strangers."""
    state, os, now = scene.state, scene.seen.os, scene.now
    weight = thresholds.leak_floating if state.floating else 100
    if is_ci_machine(state, os, now, thresholds):
        weight = 0
    elif is_server(os):
        weight //= 10
    elif state.floating and now - state.first < thresholds.settling_seconds:
        # Nobody knows yet who its people are, and they are refused at busy hours.
        weight = 0
    weight = _abroad(scene, device, weight, thresholds)
    leaked_key.add(state, Stranger(now, scene.name, device.group, weight))
    return leaked_key.rank(state, now, thresholds)


def accept(scene: Scene, device: Device, thresholds: Thresholds) -> tuple[int, int]:
    """Take note of a new device that got a seat; return the ranks of rotation and of strangers."""
    state, now = scene.state, scene.now
    device.is_accepted = True
    if device.is_old:
        state.accepted += 1
        return NOTHING, NOTHING
    is_job = is_ci_machine(state, scene.seen.os, now, thresholds)
    rotation = reseller_rotation.accept(state, device, now, is_job=is_job, thresholds=thresholds)
    if not device.is_stranger:
        return rotation, NOTHING
    weight = 0
    if device.weight >= FULL_WEIGHT:
        weight = FULL_WEIGHT
    elif device.weight:
        weight = thresholds.leak_free_seat
    weight = _abroad(scene, device, weight, thresholds)
    stranger = leaked_key.of_device(state, scene.name)
    if stranger is not None:
        stranger.weight = weight
    else:
        leaked_key.add(state, Stranger(now, scene.name, device.group, weight))
    return rotation, leaked_key.rank(state, now, thresholds)


def _abroad(scene: Scene, device: Device, weight: int, thresholds: Thresholds) -> int:
    country = scene.seen.country
    if country is None or not is_new(scene.state, country, scene.now, thresholds):
        return weight
    is_first_there = scene.state.countries[country] == device.first
    return int(weight * (thresholds.leak_country_factor if is_first_there else thresholds.leak_foreign_factor))


def is_ci_machine(state: LicenseState, os: str | None, now: int, thresholds: Thresholds) -> bool:
    """Tell whether a device is of the system on which a licence's many short jobs run."""
    if not state.jobs_os or os_tag(os) != state.jobs_os:
        return False
    return decayed(state.jobs, state.jobs_at, now, thresholds.jobs_half_life_seconds) >= thresholds.jobs


def release(state: LicenseState, name: int, os: str | None, now: int, thresholds: Thresholds) -> None:
    """Take note of a device that gave its seat back, or that had to."""
    device = state.devices.get(name)
    if device is None or not 0 <= now - device.first <= thresholds.short_job_seconds:
        state.released_at = now
        return
    state.jobs = decayed(state.jobs, state.jobs_at, now, thresholds.jobs_half_life_seconds) + 1.0
    state.jobs_at = now
    state.jobs_os = os_tag(os) or device.os or state.jobs_os
    is_stranger = leaked_key.of_device(state, name) is not None
    if device.is_accepted:
        reseller_rotation.take_back(state, device, now, thresholds)
        state.accepted = max(0, state.accepted - 1)
        state.parties = max(0, state.parties - is_stranger)
    if is_stranger:
        state.strangers = [stranger for stranger in state.strangers if stranger.device != name]
    forget(state, name)
