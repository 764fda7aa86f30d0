"""How good detections are: `python -m bench.score TRUTH[=DETECTIONS] ... [--json FILE] [--details]`.

Several folders are scored one by one, and then their mean. The folder of the truth is what `bench.fleet`
writes; the other one holds the backtest's `detections.jsonl` and `scores.jsonl`.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

HOURS = 3600.0
GOALS = {
    "precision": (0.90, "at least"),
    "recall": (0.92, "at least"),
    "lowest recall of a kind": (0.75, "at least"),
    "false alerts per 1,000 licence-days": (0.5, "at most"),
    "median hours to detect": (4.0, "at most"),
    "average precision of scores": (0.90, "at least"),
}


class Subject(NamedTuple):
    """An abused licence or an abusive address, and since when."""

    name: str
    kind: str
    variant: str
    started: datetime


class Alert(NamedTuple):
    """A detection."""

    time: datetime
    kind: str
    subject: str
    explanation: str


class Score(NamedTuple):
    """What a run reached: the figures with goals, recall by kind (by any alert, by one of that kind), names."""

    figures: dict[str, float]
    by_kind: dict[str, float]
    by_same_kind: dict[str, float]
    hours_by_kind: dict[str, float]
    missed: list[Subject]
    false: list[Alert]


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def score(truth_folder: Path, run_folder: Path) -> Score:
    """Hold the detections and scores of a run against the truth."""
    truth = {
        row["license_id"] or row["ip"]: Subject(
            row["license_id"] or row["ip"], row["kind"], row["variant"], datetime.fromisoformat(row["started_at"])
        )
        for row in rows(truth_folder / "truth.jsonl")
    }
    alerts = [
        Alert(
            datetime.fromisoformat(row["time"]),
            row["type"],
            row.get("license_id") or row.get("ip") or "",
            row["explanation"],
        )
        for row in rows(run_folder / "detections.jsonl")
    ]
    licenses = [row["license_id"] for row in rows(truth_folder / "licenses.jsonl")]
    risks = {row["license_id"]: float(row["score"]) for row in rows(run_folder / "scores.jsonl")}
    ranked = [(risks.get(license_id, 0.0), license_id in truth) for license_id in licenses]
    return measure(truth, alerts, ranked, len(licenses) * days_of(truth_folder))


def days_of(folder: Path) -> float:
    """Return how many days the history covers, from its first and last line."""
    with (folder / "usage.jsonl").open("rb") as file:
        first = json.loads(file.readline())
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 10_000))
        last = json.loads(file.read().splitlines()[-1])
    seconds = (datetime.fromisoformat(last["time"]) - datetime.fromisoformat(first["time"])).total_seconds()
    return max(1.0, round(seconds / 24 / HOURS))


def measure(
    truth: dict[str, Subject], alerts: list[Alert], ranked: list[tuple[float, bool]], license_days: float
) -> Score:
    """Compute the figures. An alert is true when its subject is abused and the abuse has begun by then."""
    true = [alert for alert in alerts if alert.subject in truth and alert.time >= truth[alert.subject].started]
    false = [alert for alert in alerts if alert.subject not in truth or alert.time < truth[alert.subject].started]
    found, found_as = first_alerts(true), first_alerts(a for a in true if a.kind == truth[a.subject].kind)
    hours = {name: (time - truth[name].started).total_seconds() / HOURS for name, time in found.items()}
    kinds = sorted({subject.kind for subject in truth.values()})
    members = {kind: [name for name, subject in truth.items() if subject.kind == kind] for kind in kinds}
    by_kind = {kind: fmean(name in found for name in members[kind]) for kind in kinds}
    flagged = {alert.subject for alert in alerts}
    figures = {
        "precision": len(found) / len(flagged) if flagged else 0.0,
        "recall": len(found) / len(truth) if truth else 0.0,
        "lowest recall of a kind": min(by_kind.values(), default=0.0),
        "false alerts per 1,000 licence-days": len(false) / license_days * 1000,
        "median hours to detect": median(hours.values()) if hours else float("inf"),
        "average precision of scores": average_precision(ranked),
    }
    return Score(
        figures=figures,
        by_kind=by_kind,
        by_same_kind={kind: fmean(name in found_as for name in members[kind]) for kind in kinds},
        hours_by_kind={
            kind: median([hours[n] for n in members[kind] if n in hours] or [float("inf")]) for kind in kinds
        },
        missed=[subject for name, subject in truth.items() if name not in found],
        false=false,
    )


def first_alerts(alerts: Iterable[Alert]) -> dict[str, datetime]:
    """Return the time of each subject's first alert."""
    first: dict[str, datetime] = {}
    for alert in alerts:
        first[alert.subject] = min(alert.time, first.get(alert.subject, alert.time))
    return first


def average_precision(ranked: list[tuple[float, bool]]) -> float:
    """Return the area under precision over recall, of (score, is abused); equal scores count as one step."""
    abused = sum(label for _, label in ranked)
    seen = hits = 0
    area = 0.0
    levels = sorted({value for value, _ in ranked}, reverse=True)
    for level in levels:
        labels = [label for value, label in ranked if value == level]
        seen += len(labels)
        hits += sum(labels)
        area += sum(labels) / abused * hits / seen if abused else 0.0
    return area


def mean(scores: list[Score]) -> Score:
    """Return the mean of several runs; a kind's lowest recall is that of the kind's mean."""
    kinds = sorted({kind for one in scores for kind in one.by_kind})

    def of(part: str) -> dict[str, float]:
        return {kind: fmean(getattr(s, part)[kind] for s in scores if kind in getattr(s, part)) for kind in kinds}

    figures = {name: fmean(one.figures[name] for one in scores) for name in GOALS}
    by_kind = of("by_kind")
    figures["lowest recall of a kind"] = min(by_kind.values(), default=0.0)
    return Score(figures, by_kind, of("by_same_kind"), of("hours_by_kind"), [], [])


def table(title: str, result: Score) -> str:
    """Return the figures as text for people."""
    lines = [title]
    for name, (goal, side) in GOALS.items():
        value = result.figures[name]
        good = value >= goal if side == "at least" else value <= goal
        lines.append(f"  {name:<38}{value:>9.3f}   {side} {goal:g}{'' if good else '   FALLS SHORT'}")
    lines.append(f"  {'kind':<22}{'recall':>8}{'as that kind':>14}{'median hours':>14}")
    for kind, recall in result.by_kind.items():
        lines.append(f"  {kind:<22}{recall:>8.2f}{result.by_same_kind[kind]:>14.2f}{result.hours_by_kind[kind]:>14.1f}")
    return "\n".join(lines)


def details(result: Score, truth_folder: Path) -> str:
    """Return what was missed and what was alerted in vain, with the sort of customer where it is known."""
    path = truth_folder / "customers.jsonl"
    sorts = {row["license_id"]: row["sort"] for row in rows(path)} if path.exists() else {}
    lines = [f"  missed: {s.kind} ({s.variant}) {s.name} since {s.started:%m-%d %H:%M}" for s in result.missed]
    counted = Counter((alert.kind, sorts.get(alert.subject, "address")) for alert in result.false)
    lines += [f"  in vain: {number} x {kind} at {sort}" for (kind, sort), number in counted.most_common()]
    lines += [f"    {a.time:%m-%d %H:%M} {a.kind} {a.subject}: {a.explanation}" for a in result.false]
    return "\n".join(lines)


def main() -> None:
    """Score what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", metavar="TRUTH[=DETECTIONS]", help="without =, both are in one folder")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--details", action="store_true", help="name what was missed and what was alerted in vain")
    arguments = parser.parse_args()
    results: dict[str, Score] = {}
    for pair in arguments.folders:
        truth_folder, _, run_folder = pair.partition("=")
        results[pair] = score(Path(truth_folder), Path(run_folder or truth_folder))
        print(table(pair, results[pair]))
        if arguments.details:
            print(details(results[pair], Path(truth_folder)))
    if len(results) > 1:
        results["mean"] = mean(list(results.values()))
        print(table("mean", results["mean"]))
    if arguments.json:
        shown = {name: result._asdict() for name, result in results.items()}
        arguments.json.write_text(
            json.dumps(shown, indent=2, default=str).replace("Infinity", "null") + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
