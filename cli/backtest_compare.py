"""What other thresholds would have changed: two ways through one history, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from cli.backtest import Watch
from domain.anomalies.findings import SEVERITIES, Finding, Kind, Severity
from domain.anomalies.risk import Band, RiskScore
from infra.thresholds import Difference, differences

Change = Literal["added", "gone", "worse", "milder", "earlier", "later", "more", "fewer"]

_Subject = tuple[str | None, str | None, Kind]


class Alerts(msgspec.Struct, frozen=True):
    """All alerts about one subject and kind: when the first was given, the worst severity, and how many there were."""

    first: datetime
    severity: Severity
    count: int


class SubjectChange(msgspec.Struct, frozen=True, kw_only=True):
    """A subject, which is a licence or else an address, and a kind about which the alerts differ.

    `before` is what the thresholds in effect raise, `after` what the others do; None where they raise nothing.
    """

    license_id: str | None
    ip: str | None
    type: Kind
    changes: tuple[Change, ...]
    before: Alerts | None
    after: Alerts | None


class BandChange(msgspec.Struct, frozen=True, kw_only=True):
    """A licence whose risk at the end of the history is in another band."""

    license_id: str
    before: Band
    after: Band
    score_before: float
    score_after: float


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What differs; `findings` is what the thresholds in effect raise, by kind."""

    thresholds: tuple[Difference, ...]
    findings: dict[str, int]
    changes: list[SubjectChange]
    bands: list[BandChange]


def compare(before: Watch, after: Watch) -> Comparison:
    """Set two ways through the same history side by side."""
    return Comparison(
        thresholds=differences(before.engine.thresholds, after.engine.thresholds),
        findings=dict(Counter(finding.kind for finding in before.found)),
        changes=list(_changes(_by_subject(before.found), _by_subject(after.found))),
        bands=list(_bands(before.risks, after.risks)),
    )


def _by_subject(found: Sequence[Finding]) -> dict[_Subject, Alerts]:
    """Gather findings, which are in the order of their time."""
    alerts: dict[_Subject, Alerts] = {}
    for finding in found:
        subject = (finding.license_id, finding.address, finding.kind)
        old = alerts.get(subject)
        if old is None:
            alerts[subject] = Alerts(datetime.fromtimestamp(finding.time, UTC), finding.severity, 1)
        else:
            worst = max(old.severity, finding.severity, key=SEVERITIES.index)
            alerts[subject] = Alerts(old.first, worst, old.count + 1)
    return alerts


def _changes(before: Mapping[_Subject, Alerts], after: Mapping[_Subject, Alerts]) -> Iterator[SubjectChange]:
    """Give what differs: added first, then gone, then the rest, each by the time of the first alert."""
    for subject in sorted(before.keys() | after.keys(), key=lambda key: _rank(before.get(key), after.get(key))):
        old, new = before.get(subject), after.get(subject)
        changes = _between(old, new)
        if changes:
            license_id, address, kind = subject
            yield SubjectChange(license_id=license_id, ip=address, type=kind, changes=changes, before=old, after=new)


def _rank(old: Alerts | None, new: Alerts | None) -> tuple[int, datetime]:
    shown = new or old
    assert shown is not None
    return (0 if old is None else 1 if new is None else 2), shown.first


def _between(old: Alerts | None, new: Alerts | None) -> tuple[Change, ...]:
    if old is None or new is None:
        return ("added",) if old is None else ("gone",)
    pairs: tuple[tuple[float, Change, Change], ...] = (
        (SEVERITIES.index(new.severity) - SEVERITIES.index(old.severity), "worse", "milder"),
        ((old.first - new.first).total_seconds(), "earlier", "later"),
        (new.count - old.count, "more", "fewer"),
    )
    return tuple(rise if difference > 0 else fall for difference, rise, fall in pairs if difference)


def _bands(before: Mapping[str, RiskScore], after: Mapping[str, RiskScore]) -> Iterator[BandChange]:
    """Give the licences whose band differs, those whose risk changes most first."""
    moved = [license_id for license_id, risk in before.items() if risk.band != after[license_id].band]
    for license_id in sorted(moved, key=lambda key: (-abs(after[key].score - before[key].score), key)):
        old, new = before[license_id], after[license_id]
        yield BandChange(
            license_id=license_id,
            before=old.band,
            after=new.band,
            score_before=old.score,
            score_after=new.score,
        )
