"""`lizenzserver backtest`: what detection would have said about a history."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import AsJson, progress, say, write_json
from cli.teaching import examples

_EXAMPLES = """
lizenzserver backtest --usage usage.jsonl --licenses licenses.jsonl --out detections.jsonl --scores scores.jsonl
lizenzserver backtest --usage usage.jsonl --licenses licenses.jsonl --out d.jsonl --scores s.jsonl --json
"""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(cls=examples(_EXAMPLES))(backtest)


def backtest(
    *,
    usage: Annotated[Path, typer.Option(metavar="FILE", help="The history, a line of JSON each, in order of time.")],
    licenses: Annotated[Path, typer.Option(metavar="FILE", help="The licences' terms, a line of JSON each.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write what is found; it is overwritten.")],
    scores: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the risk of each licence at the end.")],
    as_json: AsJson = False,
) -> None:
    """Run the detectors over a history from files; nothing is read from or written to the database.

    A line of the history has time, type, license_id, hardware_id, ip, country, app_version and os, and may have
    reason, client_time, key_hash and id; license_id is null and key_hash set for unknown keys. A licence has
    license_id, max_devices, floating and expires_at.
    """
    from cli.backtest import Files, run
    from domain.anomalies.thresholds import DEFAULT

    with progress("backtest", usage.stat().st_size) as advance:
        done = run(Files(usage, licenses, out, scores), DEFAULT, advance)
    if as_json:
        write_json(done)
        return
    found = ", ".join(f"{count} {kind}" for kind, count in sorted(done.findings.items())) or "nothing"
    say(f"{done.lines} lines about {done.licenses} licences; found: {found}")
