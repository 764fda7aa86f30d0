"""How much risk a licence carries: 0 to 100, made of named factors that fade."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from domain.anomalies.findings import KINDS, Kind
from domain.anomalies.state import Factor
from domain.anomalies.thresholds import Thresholds

Band = Literal["none", "low", "medium", "high", "critical"]

_BANDS: tuple[tuple[float, Band], ...] = ((80.0, "critical"), (55.0, "high"), (25.0, "medium"), (5.0, "low"))

_WORDS: dict[Kind, str] = {
    "key_guessing": "keys were guessed",
    "leaked_key": "the key seems to have leaked",
    "credential_sharing": "seats change hands between people who share no network",
    "impossible_travel": "it is used in places too far apart for the time between",
    "cloned_hardware_id": "one hardware id is used by several machines",
    "reseller_rotation": "more and more unconnected devices use it in turn",
    "hammering": "a device sends far more requests than it ever did",
    "clock_rollback": "a device's clock was set back after the licence had expired",
}


class RiskFactor(msgspec.Struct, frozen=True, kw_only=True):
    """One reason: its points now, 0 to 100, and when it was last seen, in seconds since 1970."""

    name: Kind
    points: float
    last_seen: float
    explanation: str


class RiskScore(msgspec.Struct, frozen=True, kw_only=True):
    """A licence's risk. `factors` begin with the heaviest."""

    score: float
    band: Band
    factors: tuple[RiskFactor, ...]
    explanation: str


def weigh(factors: dict[int, Factor], kind: int, rank: int, now: int, thresholds: Thresholds) -> None:
    """Take note of a finding of this rank, told or not: it refreshes the kind's points."""
    points = thresholds.risk_points[rank]
    old = factors.get(kind)
    if old is not None:
        points = max(points, _faded(old, now, thresholds))
    factors[kind] = Factor(points, now)


def score(factors: Mapping[int, Factor], now: float, thresholds: Thresholds) -> RiskScore:
    """Add the factors up as independent reasons: each takes its share of what is left to 100."""
    found = sorted(
        (
            RiskFactor(
                name=KINDS[kind],
                points=round(_faded(factor, now, thresholds), 1),
                last_seen=float(factor.time),
                explanation=_WORDS[KINDS[kind]],
            )
            for kind, factor in factors.items()
        ),
        key=lambda factor: (-factor.points, factor.name),
    )
    safe = 1.0
    for factor in factors.values():
        safe *= 1.0 - _faded(factor, now, thresholds) / 100.0
    total = round(100.0 * (1.0 - safe), 2)
    band = _band(total)
    return RiskScore(score=total, band=band, factors=tuple(found), explanation=_explain(total, band, found, now))


def _band(total: float) -> Band:
    return next((band for least, band in _BANDS if total >= least), "none")


def _faded(factor: Factor, now: float, thresholds: Thresholds) -> float:
    age = max(0.0, now - factor.time)
    return float(factor.points * 0.5 ** (age / thresholds.risk_half_life_seconds))


def _explain(total: float, band: Band, factors: list[RiskFactor], now: float) -> str:
    if not factors:
        return "Nothing speaks against this licence."
    reasons = "; ".join(
        f"{factor.explanation} ({factor.points:.0f} points, last seen {_days_ago(now - factor.last_seen)})"
        for factor in factors
    )
    # It must not be rounded up to where the next band begins.
    whole = round(total) if _band(round(total)) == band else int(total)
    return f"The risk is {whole} of 100 ({band}): {reasons}."


def _days_ago(seconds: float) -> str:
    days = int(seconds // 86_400)
    return "today" if days <= 0 else "a day ago" if days == 1 else f"{days} days ago"
