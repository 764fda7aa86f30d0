"""`lizenzserver replay`: what happened, into a queue once more."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal
from uuid import UUID

import typer

from cli.errors import Failure
from cli.output import AsJson, say, write_json
from cli.teaching import examples

INTERRUPTED = 130
_LONGEST_QUEUE_NAME = 255


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(cls=examples(_EXAMPLES))(replay)


_EXAMPLES = """
lizenzserver replay --to bi.licences --from begin
lizenzserver replay --to bi.licences --from 4711 --until 5000
lizenzserver replay --to bi.usage --log usage --from begin --type device.heartbeat
lizenzserver replay --to support --from begin --license 6f1c8d0e-5b1d-4e0c-8a35-0d3a5f7c2b90
"""


def replay(  # noqa: PLR0913 - one argument an option
    *,
    to: Annotated[str, typer.Option(metavar="QUEUE", help="The queue, which must be there.")],
    from_: Annotated[str, typer.Option("--from", metavar="POSITION|begin", help="The first row's position.")],
    until: Annotated[
        int | None, typer.Option(metavar="POSITION", min=1, help="The last row's position; default: the log's end now.")
    ] = None,
    log: Annotated[Literal["events", "usage"], typer.Option(help="Which log; positions are of this one.")] = "events",
    type: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Only types such as `license.*`; may be repeated.")
    ] = None,
    license: Annotated[UUID | None, typer.Option(metavar="ID", help="Only what is about this licence.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send events, or validations and heartbeats, into a queue once more: the same messages, ids and all.

    They go straight to this queue, so nobody else gets them. Whoever reads it knows by a message's id whether it has
    come before. At the end it says how far it came; after a failure or Ctrl-C, how to go on.
    """
    from cli.database import opened_for_command, settings_for_command
    from cli.log_messages import Wanted
    from cli.replay import Replay, Sent, resume, summary
    from cli.replay import replay as run

    check_queue_name(to, "--to")
    wanted = Wanted.of(type, license)
    first = _first(from_)
    if until is not None and until < first:
        raise typer.BadParameter(f"{until} is before --from", param_hint="--until")
    asked, sent = Replay(queue=to, log=log, first=first, last=until, wanted=wanted), Sent()
    settings = settings_for_command()
    if settings.amqp_url is None:
        raise Failure("AMQP_URL is not set: there is no broker to send to")
    try:
        with opened_for_command(settings) as database:
            asyncio.run(run(settings.amqp_url.reveal(), database, asked, sent))
    except KeyboardInterrupt:
        say(f"stopped: {resume(asked, sent)}")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        write_json({"sent": sent.count, "position": sent.position})
    else:
        say(summary(asked, sent))


def _first(text: str) -> int:
    from cli.tail_command import start

    found = start(text)
    if found == "end":
        raise typer.BadParameter("nothing is to be sent after the end; give a position or begin", param_hint="--from")
    return 1 if found == "begin" else found


def check_queue_name(queue: str, option: str) -> None:
    """Raise typer.BadParameter for what AMQP has no room for."""
    if not 0 < len(queue.encode()) <= _LONGEST_QUEUE_NAME:
        raise typer.BadParameter(f"a queue's name has 1 to {_LONGEST_QUEUE_NAME} bytes", param_hint=option)
