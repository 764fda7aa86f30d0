"""`lizenzserver dead`: events that a consumer has set aside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.errors import Failure
from cli.output import AsJson, say, write_json, write_table
from cli.teaching import examples

if TYPE_CHECKING:
    from infra.postgres import Database
    from projections.projection import Log

Consumer = Annotated[str, typer.Argument(help="The consumer's name, as `dead list` shows it.")]
LogName = Annotated[Literal["events", "usage"], typer.Argument(help="Which log.")]
Position = Annotated[int, typer.Argument(help="Where in the log.")]


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Events that a consumer could not apply and has set aside.")
    group.command("list", cls=examples("lizenzserver dead list\nlizenzserver dead list --json"))(list_dead)
    group.command("show", cls=examples("lizenzserver dead show seats events 4711"))(show)
    group.command(
        "redrive", cls=examples("lizenzserver dead redrive seats\nlizenzserver dead redrive seats --position 4711")
    )(redrive)
    group.command(
        "forget", cls=examples("lizenzserver dead forget anomaly\nlizenzserver dead forget anomaly --position 4711")
    )(forget)
    app.add_typer(group, name="dead")


def list_dead(as_json: AsJson = False) -> None:
    """List what was set aside, and why."""
    from cli.database import opened_for_command, settings_for_command
    from projections import dead_letters

    with opened_for_command(settings_for_command()) as database, database.connect() as connection:
        letters = dead_letters.listed(connection)
    if as_json:
        write_json({"dead_letters": letters})
    else:
        columns = ["consumer", "log", "position", "failed", "error"]
        write_table(columns, [[x.consumer, x.log, x.position, x.failed_at, x.error] for x in letters])


def show(consumer: Consumer, log: LogName, position: Position) -> None:
    """Show one event that was set aside: why, and the event as the queue tells it. JSON."""
    import asyncio

    from cli.database import opened_for_command, settings_for_command

    with opened_for_command(settings_for_command()) as database:
        write_json(asyncio.run(_shown(database, consumer, log, position)))


async def _shown(database: Database, consumer: str, log: Log, position: int) -> dict[str, object]:
    import msgspec

    from commands.event_mapper import decoder
    from projections import dead_letters
    from workers.log_reader import UnreadableEvent, events_after, installation, usage_after

    with database.connect() as connection:
        letters = dead_letters.listed(connection, consumer)
    letter = next((x for x in letters if (x.log, x.position) == (log, position)), None)
    if letter is None:
        raise Failure(f"{consumer} has set nothing aside at {log} position {position}")
    async with await database.connect_async_worker("dead-letters") as reading:
        instance = await installation(reading)
        if instance is None:
            raise Failure("no service has been started on this database yet")
        try:
            if log == "events":
                messages = await events_after(reading, position - 1, 1, decoder(), instance)
            else:
                messages = await usage_after(reading, position - 1, 1, instance)
        except UnreadableEvent as error:
            return {"dead_letter": letter, "event": None, "reason": f"{error}: {error.__cause__}"}
    if not messages or messages[0].position != position:
        return {"dead_letter": letter, "event": None, "reason": "the log does not hold it any more"}
    return {"dead_letter": letter, "event": msgspec.Raw(messages[0].body)}


def redrive(
    consumer: Consumer,
    position: Annotated[int | None, typer.Option(help="Only this one; default: all of the consumer's.")] = None,
) -> None:
    """Apply what was set aside, in the order of the logs. What fails again stays set aside.

    The workers may go on meanwhile. Leaves with 1 where something failed.
    """
    from cli.database import opened_for_command, settings_for_command
    from commands.event_mapper import decoder
    from projections import dead_letters
    from projections.behaviour import CONSUMER as ANOMALY
    from projections.following import Follower, is_of_an_event
    from projections.registry import ASYNCHRONOUS

    if consumer == ANOMALY:
        raise Failure(
            f"{ANOMALY} can't take rows in later, since their order decides what is found: look at them by `dead show`,"
            f" then `lizenzserver dead forget {ANOMALY}`"
        )
    projection = next((known for known in ASYNCHRONOUS if known.name == consumer), None)
    if projection is None:
        raise Failure(f"there is no consumer {consumer}: choose from {', '.join(known.name for known in ASYNCHRONOUS)}")
    failed = applied = 0
    with opened_for_command(settings_for_command()) as database, database.connect_worker("redrive") as connection:
        follower = Follower(projection, decoder())
        for letter in dead_letters.listed(connection, consumer):
            if position not in {None, letter.position}:
                continue
            try:
                follower.redrive(connection, letter.log, letter.position)
                applied += 1
            except Exception as error:
                if not is_of_an_event(error):
                    raise
                failed += 1
                reason = str(error).splitlines()[0] if str(error) else repr(error)
                say(f"{letter.log} position {letter.position} failed again: {reason}")
    say(f"{applied} applied, {failed} failed")
    if failed or (position is not None and not applied):
        raise Failure(
            f"not all dead letters of {consumer} could be applied" if failed else "there is no such dead letter"
        )


def forget(
    consumer: Consumer,
    position: Annotated[int | None, typer.Option(help="Only this one; default: all of the consumer's.")] = None,
) -> None:
    """Forget what `anomaly` has set aside: detection goes without it for good. The logs keep it.

    Other consumers can apply theirs later: `dead redrive`.
    """
    from cli.database import opened_for_command, settings_for_command
    from projections import dead_letters
    from projections.behaviour import CONSUMER as ANOMALY

    if consumer != ANOMALY:
        raise Failure(f"only {ANOMALY} forgets; what others have set aside is applied by `lizenzserver dead redrive`")
    with opened_for_command(settings_for_command()) as database, database.connect() as connection:
        forgotten = sum(
            dead_letters.remove(connection, consumer, letter.log, letter.position)
            for letter in dead_letters.listed(connection, consumer)
            if position in {None, letter.position}
        )
    if position is not None and not forgotten:
        raise Failure("there is no such dead letter")
    say(f"{forgotten} forgotten")
