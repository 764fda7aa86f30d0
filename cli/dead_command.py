"""`lizenzserver dead`: events that a consumer has set aside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.errors import Failure
from cli.output import AsJson, say, write_fields, write_json, write_table
from cli.teaching import examples

if TYPE_CHECKING:
    from psycopg import Connection

    from projections.dead_letters import DeadLetter

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


def show(consumer: Consumer, log: LogName, position: Position, as_json: AsJson = False) -> None:
    """Show one event that was set aside, as the queue would tell it."""
    from cli.database import opened_for_command, settings_for_command
    from projections import dead_letters

    with opened_for_command(settings_for_command()) as database, database.connect() as connection:
        letters = dead_letters.listed(connection, consumer)
        letter = next((x for x in letters if (x.log, x.position) == (log, position)), None)
        if letter is None:
            raise Failure(f"{consumer} has set nothing aside at {log} position {position}")
        row = _row(connection, letter)
    if as_json:
        write_json({"dead_letter": letter, "row": row})
        return
    shown = {"consumer": letter.consumer, "log": letter.log, "position": letter.position, "failed": letter.failed_at}
    write_fields({**shown, "error": letter.error, **{f"row.{name}": value for name, value in row.items()}})


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
    from projections.following import Follower, is_of_an_event
    from projections.registry import ASYNCHRONOUS

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


def _row(connection: Connection[dict[str, object]], letter: DeadLetter) -> dict[str, object]:
    """Return what the log holds, without what is sealed."""
    if letter.log == "events":
        query = (
            "SELECT originator_id, originator_version, topic, convert_from(state, 'UTF8')::jsonb #- '{data,sealed}'"
            " #- '{data,key_sealed}' #- '{cause,sealed_address}' AS state"
            " FROM licensing_events WHERE notification_id = %s"
        )
    else:
        query = (
            "SELECT occurred_at, type, operation, license_id, hardware_id, api_key_id, reason, app_version,"
            " client_time, country FROM usage WHERE id = %s"
        )
    row = connection.execute(query, (letter.position,)).fetchone()
    if row is None:
        raise Failure(f"{letter.log} position {letter.position} is not in the log any more")
    return row
