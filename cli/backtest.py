"""The detectors over an exported history: what they would have said, and how risky each licence is at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from cli.errors import Failure
from domain.anomalies.engine import Engine
from domain.anomalies.findings import Finding, Kind, Severity
from domain.anomalies.observation import LicenseTerms, Observation
from domain.anomalies.thresholds import Thresholds

DISORDER_SECONDS = 300.0
"""How much earlier than the line before a line may be; else all lines are put in order first."""
_ADDRESSES = 1 << 16
_BYTES_A_STEP = 1 << 20


class _LicenseLine(msgspec.Struct, gc=False):
    license_id: str
    max_devices: int | None = None
    floating: bool | None = None
    expires_at: datetime | None = None


class _UsageLine(msgspec.Struct, gc=False):
    time: datetime
    type: str
    license_id: str | None = None
    hardware_id: str | None = None
    ip: str | None = None
    country: str | None = None
    app_version: str | None = None
    os: str | None = None
    reason: str | None = None
    client_time: datetime | None = None
    key_hash: str | None = None
    id: str | None = None
    operation: str | None = None
    from_hardware_id: str | None = None
    max_devices: int | UnsetType = UNSET
    floating: bool | UnsetType = UNSET
    expires_at: datetime | UnsetType | None = UNSET


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


class _OutOfOrder(Exception):
    pass


def run(files: Files, thresholds: Thresholds, advance: Callable[[int], None]) -> Backtest:
    """Read two files and write two; `advance` is told of bytes read.

    Raises Failure for a line that can't be read, OSError for a file.
    """
    try:
        return _run(_lines(files.usage, advance), files, thresholds)
    except _OutOfOrder:
        return _run(_in_order(files.usage), files, thresholds)


def _run(lines: Iterator[Observation], files: Files, thresholds: Thresholds) -> Backtest:
    terms = list(_terms(files.licenses))
    engine = Engine(thresholds)
    for license_id, allowed in terms:
        engine.set_terms(license_id, allowed)
    counts: dict[str, int] = {}
    encoder = msgspec.json.Encoder()
    number, last = 0, 0.0
    observe = engine.observe
    with files.out.open("wb") as stream:
        for number, seen in enumerate(lines, 1):  # noqa: B007 - counted for the summary
            last = seen.time
            for finding in observe(seen):
                counts[finding.kind] = counts.get(finding.kind, 0) + 1
                stream.write(encoder.encode(_detection(finding)) + b"\n")
    known = {license_id: None for license_id, _ in terms} | dict.fromkeys(engine.licenses())
    with files.scores.open("wb") as stream:
        for license_id in known:
            stream.write(encoder.encode(ScoreLine(license_id, engine.risk(license_id, last).score)) + b"\n")
    largest = max((len(engine.save_license(license_id)) for license_id in engine.licenses()), default=0)
    return Backtest(lines=number, licenses=len(known), findings=counts, largest_state=largest)


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


def _terms(path: Path) -> Iterator[tuple[str, LicenseTerms]]:
    decoder = msgspec.json.Decoder(_LicenseLine)
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            if not raw.strip():
                continue
            line = _decoded(decoder, raw, path, number)
            yield (
                line.license_id,
                LicenseTerms(
                    max_devices=UNSET if line.max_devices is None else line.max_devices,
                    floating=UNSET if line.floating is None else line.floating,
                    expires_at=None if line.expires_at is None else _seconds(line.expires_at),
                ),
            )


def _lines(path: Path, advance: Callable[[int], None]) -> Iterator[Observation]:
    """Read line by line. Raises _OutOfOrder where one is too early."""
    decode = msgspec.json.Decoder(_UsageLine).decode
    latest, size = 0.0, 0
    with path.open("rb", buffering=_BYTES_A_STEP) as stream:
        for number, raw in enumerate(stream, 1):
            size += len(raw)
            if size >= _BYTES_A_STEP:
                advance(size)
                size = 0
            try:
                line = decode(raw)
            except msgspec.MsgspecError:
                if not raw.strip():
                    continue
                line = _repaired(raw, path, number)
            seen = _observation(line, number)
            if seen.time > latest:
                latest = seen.time
            elif seen.time < latest - DISORDER_SECONDS:
                raise _OutOfOrder
            yield seen
    advance(size)


def _in_order(path: Path) -> Iterator[Observation]:
    """Read all lines, in the order of their time; those of one time stay in the order of the file."""
    found = []
    decoder = msgspec.json.Decoder(_UsageLine)
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            if not raw.strip():
                continue
            try:
                line = decoder.decode(raw)
            except msgspec.MsgspecError:
                line = _repaired(raw, path, number)
            found.append(_observation(line, number))
    found.sort(key=lambda seen: seen.time)
    return iter(found)


def _repaired(raw: bytes, path: Path, number: int) -> _UsageLine:
    """Read a line whose device's clock says what is no time; a clock may say anything. Raises Failure."""
    try:
        fields = msgspec.json.decode(raw)
        if isinstance(fields, dict) and "client_time" in fields:
            fields["client_time"] = None
        return msgspec.convert(fields, _UsageLine)
    except msgspec.MsgspecError as error:
        raise Failure(f"{path} line {number}: {error}") from None


def _decoded(decoder: msgspec.json.Decoder[Any], raw: bytes, path: Path, number: int) -> Any:
    try:
        return decoder.decode(raw)
    except msgspec.MsgspecError as error:
        raise Failure(f"{path} line {number}: {error}") from None


def _observation(line: _UsageLine, number: int) -> Observation:
    license_id, ip, client_time = line.license_id, line.ip, line.client_time
    return Observation(
        _seconds(line.time),
        line.type,
        line.id or f"line {number}",
        license_id,
        line.hardware_id,
        network_of(ip) if ip else None,
        ip if license_id is None else None,
        line.country,
        None,
        line.app_version,
        line.os,
        line.reason,
        _seconds(client_time) if client_time is not None else None,
        line.key_hash,
        line.operation,
        line.from_hardware_id,
        _changed_terms(line) if line.type in _TERMS else None,
    )


_TERMS = frozenset({"license.issued", "license.updated"})


def _changed_terms(line: _UsageLine) -> LicenseTerms:
    expires_at = line.expires_at
    return LicenseTerms(
        max_devices=line.max_devices,
        floating=line.floating,
        expires_at=_seconds(expires_at) if isinstance(expires_at, datetime) else expires_at,
    )


def _seconds(time: datetime) -> float:
    """Return seconds since 1970; a time without a zone is in UTC."""
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()


@lru_cache(_ADDRESSES)
def network_of(ip: str) -> str:
    """Return the first three bytes of an IPv4 address, six of an IPv6 address; what is no address, as it is."""
    try:
        address: IPv4Address | IPv6Address = ip_address(ip)
    except ValueError:
        return ip
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if isinstance(address, IPv4Address):
        return str(address).rpartition(".")[0]
    return address.exploded[:14] + "::"
