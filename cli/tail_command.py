"""`lizenzserver tail`: what happens, as it happens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

import typer

from cli.teaching import examples

if TYPE_CHECKING:
    from cli.tail import Start
    from projections.projection import Log

LogChoice = Literal["events", "usage", "both"]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(cls=examples(_EXAMPLES))(tail)


_EXAMPLES = """
lizenzserver tail
lizenzserver tail --log events --from begin --no-follow > events.jsonl
lizenzserver tail --type 'license.*' --type device.deactivated | jq -r '[.time, .type, .subject] | @tsv'
lizenzserver tail --license 6f1c8d0e-5b1d-4e0c-8a35-0d3a5f7c2b90 --from begin
lizenzserver tail --from 4711 --from-usage 90210
lizenzserver tail --type license.validation.failed --limit 10
"""


def start(text: str) -> Start:
    """Read where to begin. Raises typer.BadParameter."""
    if text == "begin":
        return "begin"
    if text == "end":
        return "end"
    if text.isascii() and text.isdecimal() and 0 < int(text) < 2**63:
        return int(text)
    raise typer.BadParameter(f"{text!r} is neither a position (1 or more) nor begin nor end")


def tail(  # noqa: PLR0913 - one argument an option
    *,
    log: Annotated[LogChoice, typer.Option(help="The event log, the log of validations and heartbeats, or both.")] = (
        "both"
    ),
    from_: Annotated[
        str, typer.Option("--from", metavar="POSITION|begin|end", help="The first row's position in the log.")
    ] = "end",
    from_usage: Annotated[
        str | None,
        typer.Option(metavar="POSITION|begin|end", help="The same in the usage log, where --from is of the event log."),
    ] = None,
    type: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Only types such as `license.*`; may be repeated.")
    ] = None,
    license: Annotated[UUID | None, typer.Option(metavar="ID", help="Only what is about this licence.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many rows.")] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for more rows, until Ctrl-C.")] = True,
) -> None:
    """Print events, validations and heartbeats, live, a line of JSON each: the very messages of the queue.

    It reads the logs themselves, so it needs no broker. A row's position is its `sequence`; each log has its own.
    docs/asyncapi.yaml says what the fields mean.
    """
    from cli.database import opened_for_command, settings_for_command
    from cli.log_messages import Wanted
    from cli.tail import Tail
    from cli.tail import tail as run

    asked = Tail(starts=_starts(log, from_, from_usage), wanted=Wanted.of(type, license), limit=limit, follow=follow)
    try:
        with opened_for_command(settings_for_command()) as database:
            asyncio.run(run(database, asked))
    except KeyboardInterrupt:
        return  # This is how one ends it.


def _starts(log: LogChoice, from_: str, from_usage: str | None) -> dict[Log, Start]:
    begin = start(from_)
    if log != "both":
        if from_usage is not None:
            raise typer.BadParameter(f"with --log {log}, --from is of that log; --from-usage has no meaning")
        return {log: begin}
    if from_usage is not None:
        return {"events": begin, "usage": start(from_usage)}
    if isinstance(begin, int):
        raise typer.BadParameter("a position is of one log: give --log events, --log usage, or --from-usage too")
    return {"events": begin, "usage": begin}
