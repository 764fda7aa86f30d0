"""Writes a fleet's three files."""

from __future__ import annotations

from pathlib import Path

from bench.fleet.fleet import Fleet
from bench.fleet.lines import ENCODER, moment_or_none


def write(fleet: Fleet, folder: Path) -> None:
    """Write `usage.jsonl`, `licenses.jsonl` and `truth.jsonl` into a folder, which is made where it is missing.

    `customers.jsonl` says in addition of what sort each licence's customer is, to understand what went wrong.
    A line of the truth: `{license_id, ip, kind, variant, sort, started_at, ended_at, events}`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "usage.jsonl").write_bytes(b"\n".join(fleet.usage) + b"\n")
    (folder / "licenses.jsonl").write_bytes(b"".join(ENCODER.encode(licence) + b"\n" for licence in fleet.licences))
    sorts = [{"license_id": license_id, "sort": sort} for license_id, sort in fleet.sorts.items()]
    (folder / "customers.jsonl").write_bytes(b"".join(ENCODER.encode(row) + b"\n" for row in sorts))
    with (folder / "truth.jsonl").open("wb") as file:
        for subject, abuse in zip(fleet.subjects, fleet.truth, strict=True):
            row = {
                "license_id": None if abuse.ip else subject,
                "ip": abuse.ip,
                "kind": abuse.kind,
                "variant": abuse.variant,
                "sort": fleet.sorts.get(subject),
                "started_at": moment_or_none(abuse.started),
                "ended_at": moment_or_none(abuse.ended),
                "events": abuse.events,
            }
            file.write(ENCODER.encode(row) + b"\n")
