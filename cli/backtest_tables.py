"""What other thresholds would have changed, as tables for people."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence

from cli.backtest import Backtest
from cli.backtest_compare import Alerts, BandChange, Comparison, SubjectChange
from cli.output import say, shown, write_table
from domain.anomalies.findings import KINDS
from infra import thresholds
from infra.thresholds import Difference

_TIME = "%Y-%m-%d %H:%M:%S"


def write_comparison(compared: Comparison, done: Backtest) -> None:
    """Print a table for each sort of difference that there is; say where there is none."""
    if compared.thresholds:
        write_differences(compared.thresholds, "new")
    else:
        say("no threshold differs from those in effect")
    if not compared.changes:
        say("no alert differs")
    else:
        _write_kinds(compared, done)
        _write_changes(compared.changes)
    if not compared.bands:
        say("no licence is in another band of risk at the end")
    else:
        _write_bands(compared.bands)


def write_differences(found: Sequence[Difference], name: str) -> None:
    """Print thresholds beside those in effect; `name` is the column's."""
    rows = [[each.name, *(thresholds.shown(each.name, value) for value in (each.before, each.after))] for each in found]
    write_table(["threshold", "in effect", name], rows)


def _write_kinds(compared: Comparison, done: Backtest) -> None:
    counts = Counter((change.type, name) for change in compared.changes for name in change.changes)
    rows = [
        [kind, compared.findings.get(kind, 0), done.findings.get(kind, 0), counts[kind, "added"], counts[kind, "gone"]]
        for kind in KINDS
        if compared.findings.get(kind) or done.findings.get(kind)
    ]
    sys.stdout.write("\n")
    write_table(["kind", "alerts in effect", "alerts new", "subjects added", "subjects gone"], rows)


def _write_changes(changes: Sequence[SubjectChange]) -> None:
    rows = [
        [
            change.changes,
            change.type,
            change.license_id or change.ip,
            _both(change, lambda alerts: alerts.severity),
            _both(change, lambda alerts: alerts.first.strftime(_TIME)),
            _both(change, lambda alerts: str(alerts.count)),
        ]
        for change in changes
    ]
    sys.stdout.write("\n")
    write_table(["change", "kind", "subject", "worst severity", "first alert", "alerts"], rows)


def _write_bands(bands: Sequence[BandChange]) -> None:
    rows = [
        [
            each.license_id,
            _moved(each.before, each.after),
            _moved(f"{each.score_before:.0f}", f"{each.score_after:.0f}"),
        ]
        for each in bands
    ]
    sys.stdout.write("\n")
    write_table(["licence", "risk band", "risk score"], rows)


def _both(change: SubjectChange, text: Callable[[Alerts], str]) -> str:
    found = [text(alerts) for alerts in (change.before, change.after) if alerts is not None]
    return _moved(found[0], found[-1])


def _moved(before: str, after: str) -> str:
    return before if before == after else f"{shown(before)} -> {shown(after)}"
