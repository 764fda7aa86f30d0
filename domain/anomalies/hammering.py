"""Hammering: a device asks far more often than it ever did, and goes on.

Ordinary life: CI machines ask often, but always did; after an outage devices retry for some minutes; a restart loop is
over soon; a weekly job asks once a minute for hours. So it takes many requests beyond that, without a pause, at a rate
far above the device's own peak.
"""

from __future__ import annotations

from domain.anomalies.findings import NOTHING, grade
from domain.anomalies.state import Device
from domain.anomalies.thresholds import Thresholds
from domain.anomalies.words import span

SLOT_SECONDS = 600
"""Requests are counted over so long. It is no threshold: what is remembered of a device is in such slots."""

_MOST = 60_000
"""Nothing is counted further, which bounds what is stored."""


def observe(device: Device, now: int, thresholds: Thresholds) -> int:
    """Count an observation of a device; return the rank of what it does."""
    slot = now // SLOT_SECONDS
    if slot > device.slot:
        _close(device, slot, thresholds)
    device.slot_count = min(device.slot_count + 1, _MOST)
    count = device.slot_count
    if count < thresholds.hammer_floor or count < thresholds.hammer_times_peak * device.peak:
        return NOTHING
    if count >= thresholds.hammer_burst:
        return grade(count, thresholds.hammer_burst)
    return grade(device.run + count - thresholds.hammer_floor, thresholds.hammer_run) if device.run else NOTHING


def _close(device: Device, slot: int, thresholds: Thresholds) -> None:
    """End a slot: either it was hot, or it teaches what is normal for the device."""
    count = device.slot_count
    if count >= thresholds.hammer_floor and count >= thresholds.hammer_times_peak * device.peak:
        device.run = min(device.run + count - thresholds.hammer_floor, _MOST)
    else:
        device.run = 0
        # It is learned step by step, so that one storm does not make another look ordinary.
        device.peak = max(device.peak, min(count, device.peak + device.peak // 2 + 2))
    if slot > device.slot + 1:
        device.run = 0
    device.slot, device.slot_count = slot, 0


def explain(device: Device) -> str:
    """Say it in one sentence."""
    slot = span(SLOT_SECONDS)
    before = f" and {device.run} too many without a pause before that" if device.run else ""
    usual = f"its own most in ordinary times is {device.peak}" if device.peak else "it is new and has no habits yet"
    return f"A device sent {device.slot_count} requests within {slot}{before}, while {usual}."
