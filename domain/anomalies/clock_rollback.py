"""Clock rollback: after the licence expired, a device's clock went back to before that.

Ordinary life: a dead battery sets a clock to a date years ago, whether or not a licence expires; a wrong time zone is
less than 15 hours off; a licence is renewed late, and then simply works again.
"""

from __future__ import annotations

from domain.anomalies.findings import HIGH, MEDIUM, NOTHING
from domain.anomalies.scene import Scene
from domain.anomalies.state import Device, LicenseState
from domain.anomalies.thresholds import Thresholds
from domain.anomalies.words import about

_MOST = 100
"""Nothing is counted further, which bounds what is stored."""


def observe(scene: Scene, device: Device, client_time: float, thresholds: Thresholds) -> int:
    """Take a reading of a device's clock; return the rank of what the device has done."""
    state, now = scene.state, scene.now
    behind = now - client_time
    is_sane = abs(behind) <= thresholds.clock_behind_seconds
    expired_at = expiry(state, now)
    if expired_at is None:
        device.bad_clock, device.good_clock = not is_sane, is_sane
        return NOTHING
    if is_sane:
        device.bad_clock, device.good_clock = False, True
        if scene.succeeded:
            # The server accepts it, so it was renewed without our hearing of it.
            state.expires_at = state.expired_since = None
        return NOTHING
    if device.bad_clock or behind < 0 or not 0 <= expired_at - client_time <= thresholds.clock_longest_seconds:
        return NOTHING
    device.rollbacks = min(device.rollbacks + 1, _MOST)
    # A clock that nobody saw right before needs more than one reading.
    if not device.good_clock and device.rollbacks < thresholds.clock_rollbacks:
        return NOTHING
    return HIGH if device.rollbacks >= 10 * thresholds.clock_rollbacks else MEDIUM


def expiry(state: LicenseState, now: int) -> int | None:
    """Return since when the licence is expired, by its terms or by what the server said; None where it is good."""
    if state.expired_since is not None:
        return state.expired_since
    return state.expires_at if state.expires_at is not None and now > state.expires_at else None


def explain(state: LicenseState, device: Device, client_time: float, now: int) -> str:
    """Say it in one sentence."""
    expired_at = expiry(state, now) or now
    # Where nobody saw it right, it takes several readings.
    clock = "clock, which was right before, now" if device.good_clock else "clock repeatedly"
    return (
        f"The licence expired {about(now - expired_at)} ago, and a device's {clock} says a time"
        f" {about(expired_at - client_time)} before the expiry."
    )
