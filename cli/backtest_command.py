"""`lizenzserver backtest`: what detection would have said about a history."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import AsJson, progress, say, write_json
from cli.teaching import examples

if TYPE_CHECKING:
    from cli.backtest import Backtest
    from cli.backtest_compare import Comparison
    from infra.places import Places

_EXAMPLES = """
lizenzserver backtest --usage usage.jsonl --licenses licenses.jsonl --out detections.jsonl --scores scores.jsonl
lizenzserver backtest --usage usage.jsonl --licenses licenses.jsonl --out d.jsonl --scores s.jsonl --json
lizenzserver backtest --usage usage.jsonl --licenses licenses.jsonl --out d.jsonl --scores s.jsonl --thresholds new.toml --compare
"""  # noqa: E501 - a line that can be copied


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(cls=examples(_EXAMPLES))(backtest)


def backtest(  # noqa: PLR0913 - typer makes an option of each
    *,
    usage: Annotated[Path, typer.Option(metavar="FILE", help="The history, a line of JSON each, in order of time.")],
    licenses: Annotated[Path, typer.Option(metavar="FILE", help="The licences' terms, a line of JSON each.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write what is found; it is overwritten.")],
    scores: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the risk of each licence at the end.")],
    thresholds: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Thresholds to go by; else those in effect.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show what --thresholds change against those in effect.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the detectors over a history from files; nothing is read from or written to the database.

    A line of the history has time, type, license_id, hardware_id, ip, country, app_version and os, and may have
    reason, client_time, key_hash and id; license_id is null and key_hash set for unknown keys. A licence has
    license_id, max_devices, floating and expires_at. Where a line has no country, its address tells. The thresholds in
    effect are those of ANOMALY_THRESHOLDS, see `lizenzserver thresholds`; cities come from GEO_DATABASE.
    """
    from cli.backtest import Files, run
    from cli.backtest_compare import compare as set_side_by_side
    from cli.backtest_tables import write_comparison
    from domain.anomalies.words import counted
    from infra.settings import load_detection_settings
    from infra.thresholds import in_effect, load

    if compare and thresholds is None:
        raise typer.BadParameter("it compares --thresholds with those in effect: give both", param_hint="--compare")
    settings = load_detection_settings(os.environ, Path(".env"))
    present = in_effect(settings.anomaly_thresholds)
    tried = present if thresholds is None else load(thresholds)
    files = Files(usage, licenses, out, scores)
    with _places(settings.geo_database) as places, progress("backtest", usage.stat().st_size) as advance:
        done, watches = run(files, [present, tried] if compare else [tried], places, advance)
    compared = set_side_by_side(*watches) if compare else None
    if as_json:
        _write_json(done, compared)
        return
    if compared is not None:
        write_comparison(compared, done)
    found = ", ".join(f"{count} {kind}" for kind, count in sorted(done.findings.items())) or "nothing"
    say(f"{counted(done.lines, 'line')} about {counted(done.licenses, 'licence')}; found: {found}")


@contextmanager
def _places(path: Path | None) -> Iterator[Places | None]:
    from infra.places import Places

    if path is None:
        yield None
        return
    places = Places(path)
    try:
        yield places
    finally:
        places.close()


def _write_json(done: Backtest, compared: Comparison | None) -> None:
    import msgspec

    found = msgspec.to_builtins(done)
    write_json(found if compared is None else {**found, "compared": compared})
