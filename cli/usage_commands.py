"""`lizenzserver usage`: the history of use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from cli.output import AsJson, say, write_json
from cli.teaching import examples

_EXAMPLES = """
lizenzserver usage export --out usage.jsonl --licenses licenses.jsonl
lizenzserver usage export --out usage.jsonl --licenses licenses.jsonl --since 2026-03-01 --until 2026-04-01
lizenzserver usage export --out one.jsonl --licenses its-terms.jsonl --license 6f1c8d0e-5b1d-4e0c-8a35-0d3a5f7c2b90
lizenzserver backtest --usage usage.jsonl --licenses licenses.jsonl --out detections.jsonl --scores scores.jsonl
"""


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="The history of use. It can be read while the server runs.")
    group.command("export", cls=examples(_EXAMPLES))(export)
    # With a callback, one command alone is a group too.
    group.callback()(lambda: None)
    app.add_typer(group, name="usage")


def export(  # noqa: PLR0913 - one argument an option
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write what happened.")],
    licenses: Annotated[Path, typer.Option(metavar="FILE", help="Where to write what the licences allow.")],
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only what occurred then or later; a date is its first moment.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only what occurred before; a date is its first moment.")
    ] = None,
    license: Annotated[UUID | None, typer.Option(metavar="ID", help="Only what is about this licence.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the history of both logs to files, a line of JSON each, as `lizenzserver backtest` reads it.

    The files hold personal data: IP addresses, hardware ids and operating systems, in clear. They are readable by you
    only; delete them when you are done. What was erased is not in them: its address and operating system are null.

    Lines are in the order in which detection looks at them, so that a backtest over all of it finds what detection has
    found, but for dismissed alerts and changed thresholds, of which the files know nothing. Times are RFC 3339, or
    dates in UTC. The licences' terms are those at the beginning; changes after that are lines of what happened.
    """
    from dataclasses import asdict

    from cli.database import opened_for_command, settings_for_command
    from cli.export_usage import export as run
    from cli.history import Wanted
    from cli.moments import time_of

    bounds = {"since": since and time_of(since, "--since"), "until": until and time_of(until, "--until")}
    wanted = Wanted(license_id=license, **{name: time for name, time in bounds.items() if time})
    if wanted.since >= wanted.until:
        raise typer.BadParameter("it must be after --since", param_hint="--until")
    if out.resolve() == licenses.resolve():
        raise typer.BadParameter("it is the same file as --out", param_hint="--licenses")
    settings = settings_for_command()
    with opened_for_command(settings) as database:
        done = run(settings, database, wanted, out, licenses)
    if as_json:
        write_json(asdict(done))
        return
    say(f"exported {done.lines} lines and {done.licenses} licences in {done.seconds:.1f} s")
    if done.unopened_addresses:
        say(f"{done.unopened_addresses} lines have no address: it was erased")
    if done.unreadable_events:
        say(f"{done.unreadable_events} events can't be read by this program, and are left out")
