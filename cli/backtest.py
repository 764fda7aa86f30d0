"""The detectors over an exported history: what they would have said, and how risky each licence is at its end."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import UNSET, UnsetType

from cli.backtest_lines import Advance, OutOfOrder, Reader, terms
from cli.errors import Failure
from domain.anomalies.engine import Engine
from domain.anomalies.findings import Finding, Kind, Severity
from domain.anomalies.observation import Observation
from domain.anomalies.risk import RiskScore
from domain.anomalies.thresholds import Thresholds
from infra.places import Places


class DetectionLine(msgspec.Struct, omit_defaults=True):
    """A finding as it is written."""

    time: datetime
    type: Kind
    severity: Severity
    license_id: str | None
    explanation: str
    evidence: tuple[str, ...]
    ip: str | UnsetType = UNSET


class ScoreLine(msgspec.Struct):
    """A licence's risk at the end of the history."""

    license_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Files:
    """What a backtest reads, and where it writes."""

    usage: Path
    licenses: Path
    out: Path
    scores: Path


@dataclass(slots=True)
class Backtest:
    """What a backtest did: lines read, findings by kind, the largest state of a licence in bytes."""

    lines: int
    licenses: int
    findings: dict[str, int]
    largest_state: int


@dataclass(slots=True)
class Watch:
    """Detection with one set of thresholds: what it found, in order, and each licence's risk at the end."""

    engine: Engine
    found: list[Finding] = field(default_factory=list)
    risks: dict[str, RiskScore] = field(default_factory=dict)


def run(
    files: Files, sets: Sequence[Thresholds], places: Places | None, advance: Advance
) -> tuple[Backtest, list[Watch]]:
    """Read two files, once, and detect with each set of thresholds; what the last one says is written to two files.

    `places` is the database that GEO_DATABASE names. `advance` is told of bytes read.

    Raises Failure for a line that can't be read, or a file that would be overwritten; OSError for a file.
    """
    for path in (files.out, files.scores):
        if path.resolve() in {files.usage.resolve(), files.licenses.resolve()}:
            raise Failure(f"{path} is read, so it can't be written to as well")
    if files.out.resolve() == files.scores.resolve() != Path(os.devnull):
        raise Failure(f"{files.out} can't hold both what is found and the risks")
    with ExitStack() as opened:
        out = opened.enter_context(files.out.open("wb"))
        scores = opened.enter_context(files.scores.open("wb"))
        number, watches = _watch(files, sets, Reader(places), advance)
        encode = msgspec.json.Encoder().encode
        out.writelines(encode(_detection(finding)) + b"\n" for finding in watches[-1].found)
        scores.writelines(encode(ScoreLine(key, risk.score)) + b"\n" for key, risk in watches[-1].risks.items())
    return _summary(number, watches[-1]), watches


def _watch(files: Files, sets: Sequence[Thresholds], reader: Reader, advance: Advance) -> tuple[int, list[Watch]]:
    done = 0

    def counted(size: int) -> None:
        nonlocal done
        done += size
        advance(size)

    try:
        return _detect(reader.lines(files.usage, counted), files, sets)
    except OutOfOrder:
        advance(-done)
        return _detect(reader.in_order(files.usage, advance), files, sets)


def _detect(lines: Iterator[Observation], files: Files, sets: Sequence[Thresholds]) -> tuple[int, list[Watch]]:
    """Show each observation to every engine; return how many there were, and the engines."""
    watches = [Watch(Engine(thresholds)) for thresholds in sets]
    allowed = list(terms(files.licenses))
    for watch in watches:
        for license_id, of_license in allowed:
            watch.engine.set_terms(license_id, of_license)
    observers: list[tuple[Callable[[Observation], list[Finding]], list[Finding]]]
    observers = [(watch.engine.observe, watch.found) for watch in watches]
    number, last = 0, 0.0
    for number, seen in enumerate(lines, 1):  # noqa: B007 - counted for the summary
        last = seen.time
        for observe, found in observers:
            found.extend(observe(seen))
    for watch in watches:
        known = {license_id: None for license_id, _ in allowed} | dict.fromkeys(watch.engine.licenses())
        watch.risks = {license_id: watch.engine.risk(license_id, last) for license_id in known}
    return number, watches


def _summary(number: int, watch: Watch) -> Backtest:
    engine = watch.engine
    return Backtest(
        lines=number,
        licenses=len(watch.risks),
        findings=dict(Counter(finding.kind for finding in watch.found)),
        largest_state=max((len(engine.save_license(license_id)) for license_id in engine.licenses()), default=0),
    )


def _detection(finding: Finding) -> DetectionLine:
    return DetectionLine(
        time=datetime.fromtimestamp(finding.time, UTC),
        type=finding.kind,
        severity=finding.severity,
        license_id=finding.license_id,
        explanation=finding.explanation,
        evidence=finding.evidence,
        ip=UNSET if finding.address is None else finding.address,
    )
