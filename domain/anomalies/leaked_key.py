"""Leaked key: devices that nobody knows, from networks that nobody knows, within days; refused ones count too.

Ordinary life: a new licence's first devices; a person who tries one device too many; a team that starts to use its free
seats; machines of a CI that give their seat back within the hour.
"""

from __future__ import annotations

from domain.anomalies.findings import NOTHING, grade
from domain.anomalies.state import STRANGERS, LicenseState, Stranger
from domain.anomalies.thresholds import Thresholds
from domain.anomalies.words import counted, span

LEAST = 2
"""Fewer strangers than this are nothing, whatever their weight."""


def add(state: LicenseState, stranger: Stranger) -> None:
    """Remember a stranger; the oldest goes where there is no room."""
    state.strangers.append(stranger)
    del state.strangers[:-STRANGERS]


def of_device(state: LicenseState, tag: int) -> Stranger | None:
    """Return the stranger that a device was taken for."""
    return next((stranger for stranger in state.strangers if stranger.device == tag), None)


def rank(state: LicenseState, now: int, thresholds: Thresholds) -> int:
    """Return the rank of the strangers of the last days."""
    recent = _recent(state, now, thresholds)
    if len(recent) < LEAST:
        return NOTHING
    return grade(sum(stranger.weight for stranger in recent), _limit(state, len(recent), thresholds))


def _limit(state: LicenseState, recent: int, thresholds: Thresholds) -> float:
    settled = max(state.parties - recent, (state.accepted - recent) / 2, 0)
    # No more can be counted than are kept.
    return min(thresholds.leak_strangers + thresholds.leak_share_of_parties * 100 * settled, 75.0 * STRANGERS)


def _recent(state: LicenseState, now: int, thresholds: Thresholds) -> list[Stranger]:
    oldest = now - thresholds.leak_window_seconds
    return [stranger for stranger in state.strangers if stranger.time >= oldest and stranger.weight]


def explain(state: LicenseState, now: int, thresholds: Thresholds) -> str:
    """Say it in one sentence."""
    recent = _recent(state, now, thresholds)
    return (
        f"{len(recent)} unknown devices, each from a network where no device of this licence had been, used or tried"
        f" the key within {span(thresholds.leak_window_seconds)}, though it has {counted(state.max_devices, 'seat')}."
    )
