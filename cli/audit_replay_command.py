"""`lizenzserver audit replay`: what happened, in order, as CloudEvents."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

import typer

from cli.errors import Failure
from cli.output import AsJson, say, write_json
from cli.replay_command import INTERRUPTED, check_queue_name
from cli.teaching import examples

if TYPE_CHECKING:
    from cli.replay import Part, Sent
    from domain.history.past import Moment
    from infra.postgres import Database
    from infra.settings import Settings
    from projections.projection import Log

LicenseOption = Annotated[
    str | None, typer.Option("--license", metavar="KEY|ID", help="Only what is about this licence.")
]
CustomerOption = Annotated[
    str | None,
    typer.Option(
        "--customer",
        metavar="ID",
        help="Only what is about this customer: its id or e-mail, or the data subject's id.",
    ),
]

_EXAMPLES = """
lizenzserver audit replay --license LIC-2345ABCDEFGH
lizenzserver audit replay --customer acme --from 2026-03-01 --to 2026-04-01 --output march.jsonl
lizenzserver audit replay --from 4711 --to 5000 | jq -r '[.sequence, .time, .type, .data.actor] | @tsv'
lizenzserver audit replay --log usage --license LIC-2345ABCDEFGH --from 2026-03-03T14:00:00Z --to 2026-03-03T14:10:00Z
lizenzserver audit replay --type 'license.*' --queue auditors
"""


def register(group: typer.Typer) -> None:
    """Add the command to its group."""
    group.command("replay", cls=examples(_EXAMPLES))(replay)


def replay(  # noqa: PLR0913 - one argument an option
    *,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="POSITION|TIME", help="The first position, or what occurred then or later."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="POSITION|TIME", help="The last position, or what occurred before; default: all."),
    ] = None,
    license: LicenseOption = None,
    customer: CustomerOption = None,
    type: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Only types such as `license.*`; may be repeated.")
    ] = None,
    log: Annotated[
        Literal["events", "usage"],
        typer.Option(help="Events, or validations and heartbeats."),
    ] = "events",
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to write; default: stdout.")] = None,
    queue: Annotated[str | None, typer.Option(help="Send to this queue instead, which must be there.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell what happened once more, in order: a line of JSON each, CloudEvents as the queue has them.

    No personal data is in them, so they may be handed on. Times are RFC 3339, or dates in UTC: a date is its first
    moment. A row's position in its log is its `sequence`. A file appears when it is complete, readable by you only;
    --json then tells how much is in it.
    """
    from cli.audit_replay import write
    from cli.database import opened_for_command, settings_for_command
    from cli.replay import Sent

    if license is not None and customer is not None:
        raise typer.BadParameter("give a licence or a customer", param_hint="--customer")
    if output is not None and queue is not None:
        raise typer.BadParameter("give a file or a queue", param_hint="--queue")
    if queue is not None:
        check_queue_name(queue, "--queue")
    if as_json and output is None and queue is None:
        raise typer.BadParameter("stdout is for the lines already", param_hint="--json")
    bounds = _bounds(from_, to)
    settings, sent = settings_for_command(), Sent()
    if queue is not None and settings.amqp_url is None:
        raise Failure("AMQP_URL is not set: there is no broker to send to")
    try:
        with opened_for_command(settings) as database:
            about = asyncio.run(_about(settings, database, license, customer))
            asked = _part(bounds, log, tuple(type or ()), about)
            if queue is not None:
                _publish(settings, database, asked, sent, queue)
            else:
                write(database, asked, sent, output)
    except KeyboardInterrupt:
        say(f"stopped: {_counted(sent) if output is None else f'{output} was not written'}")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        write_json({"sent": sent.count, "position": sent.position})
    else:
        say(f"{_counted(sent)} of the {log} log")


def _bounds(from_: str | None, to: str | None) -> tuple[Moment, Moment]:
    """Read both ends; positions may be left out. Raises typer.BadParameter."""
    from cli.moments import moment_of
    from domain.history.past import Moment

    first = Moment() if from_ is None else moment_of(from_, "--from")
    last = Moment() if to is None else moment_of(to, "--to")
    wrong = (first.position is not None and last.position is not None and last.position < first.position) or (
        first.time is not None and last.time is not None and last.time <= first.time
    )
    if wrong:
        raise typer.BadParameter("it must come after --from", param_hint="--to")
    return first, last


def _part(bounds: tuple[Moment, Moment], log: Log, types: tuple[str, ...], about: frozenset[UUID] | None) -> Part:
    from cli.log_messages import Wanted
    from cli.replay import Part

    first, last = bounds
    subjects = None if about is None else frozenset(map(str, about))
    wanted = Wanted(types, subjects, since=first.time, until=last.time)
    return Part(log=log, first=max(1, first.position or 1), last=last.position, wanted=wanted)


async def _about(
    settings: Settings, database: Database, license: str | None, customer: str | None
) -> frozenset[UUID] | None:
    from cli.audit_subjects import licenses_of
    from cli.core import workbench

    if license is None and customer is None:
        return None
    async with workbench(settings, database, "audit-replay") as bench:
        return await licenses_of(bench, license, customer)


def _publish(settings: Settings, database: Database, asked: Part, sent: Sent, queue: str) -> None:
    from cli.replay import Replay, replay, resume

    assert settings.amqp_url is not None
    into = Replay(log=asked.log, first=asked.first, last=asked.last, wanted=asked.wanted, queue=queue)
    try:
        asyncio.run(replay(settings.amqp_url.reveal(), database, into, sent))
    except KeyboardInterrupt:
        say(f"stopped: {resume(into, sent)}")
        raise typer.Exit(INTERRUPTED) from None


def _counted(sent: Sent) -> str:
    return f"{sent.count} message{'s' if sent.count != 1 else ''}, up to position {sent.position}"
