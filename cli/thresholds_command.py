"""`lizenzserver thresholds`: the numbers that detection goes by, as a file that explains itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.output import say
from cli.teaching import examples

_EXAMPLES = """
lizenzserver thresholds > thresholds.toml
lizenzserver thresholds --check thresholds.toml
ANOMALY_THRESHOLDS=thresholds.toml lizenzserver thresholds
"""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(cls=examples(_EXAMPLES))(thresholds)


def thresholds(
    check: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Check a file, and show what differs from those in effect.")
    ] = None,
) -> None:
    """Print the thresholds in effect as a TOML file, each with its reason and what it may be.

    They are those of the file that ANOMALY_THRESHOLDS names, else the program's own.
    """
    from cli.backtest_tables import write_differences
    from infra.settings import load_detection_settings
    from infra.thresholds import as_toml, differences, in_effect, load

    present = in_effect(load_detection_settings(os.environ, Path(".env")).anomaly_thresholds)
    if check is None:
        sys.stdout.write(as_toml(present))
        return
    found = differences(present, load(check))
    if found:
        write_differences(found, "in the file")
    say(f"{check} can be used; thresholds that differ from those in effect: {len(found)}")
