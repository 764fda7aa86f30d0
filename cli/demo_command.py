"""`lizenzserver demo`: something to look at."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cli.errors import Failure
from cli.output import AsJson, say, write_json
from cli.teaching import examples

if TYPE_CHECKING:
    from cli.core import Workbench
    from cli.demo import Filled


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(cls=examples("lizenzserver demo\nlizenzserver demo --licenses 50 --seed 7 --yes"))(demo)


def demo(
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same fleet.")] = 1,
    licenses: Annotated[int, typer.Option(min=1, max=2_000, help="How many licences.")] = 300,
    yes: Annotated[bool, typer.Option("--yes", help="Do it even where there are licences already.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fill the database with a made-up fleet: licences, devices, and two weeks of use.

    It shows what every report and screen looks like with data: some licences have expired or were revoked, some are
    for tests, seats have moved, and one key has leaked. Nothing takes it out again, so give it a data folder of its
    own. Keys and ids are new each time; all else follows from the seed and today's date.
    """
    from cli.core import workbench
    from cli.database import opened_for_command, settings_for_command

    settings = settings_for_command()

    async def run() -> Filled:
        from cli.demo import fill

        async with workbench(settings, database, "demo") as bench:
            await _check_empty(bench, yes=yes)
            return await fill(bench, seed, licenses)

    with opened_for_command(settings) as database:
        filled = asyncio.run(run())
    if as_json:
        write_json(filled)
    else:
        say(
            f"made up {filled.licenses} licences, {filled.devices} devices and {filled.usage_rows} rows of use;"
            " try `lizenzserver licenses list`"
        )


async def _check_empty(bench: Workbench, *, yes: bool) -> None:
    from projections import licenses
    from projections.licenses import LicenseFilter

    count = await licenses.count(bench.connection, LicenseFilter())
    if not count or yes:
        return
    question = f"there are {count} licences already, and what demo makes can't be taken out again"
    if not (sys.stdin.isatty() and sys.stderr.isatty() and typer.confirm(f"{question}. Go on?", err=True)):
        raise Failure(f"{question}: give --yes, or another DATA_DIR")
