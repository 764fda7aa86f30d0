"""`lizenzserver status`: who works, and how far behind the logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.errors import Failure
from cli.output import AsJson, write_json, write_table
from cli.teaching import examples

if TYPE_CHECKING:
    from infra.postgres import Database
    from projections.lag import FanOut

Worker = Annotated[
    Literal["relay", "projector", "anomaly", "notary"] | None,
    typer.Argument(help="Leave with 1 unless this worker works and keeps up."),
]
LongestLag = Annotated[float, typer.Option("--longest-lag", help="Seconds that count as keeping up.", min=0)]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(
        cls=examples("lizenzserver status\nlizenzserver status relay --longest-lag 10\nlizenzserver status --json")
    )(status)


def status(worker: Worker = None, longest_lag: LongestLag = 60.0, as_json: AsJson = False) -> None:
    """Show the workers, how far each consumer is behind the logs, and what was set aside.

    With a worker's name it is a health check: it leaves with 1 where no process does that work, or where a consumer
    of it is further behind than --longest-lag.
    """
    import asyncio

    from cli.database import opened_for_command, settings_for_command

    with opened_for_command(settings_for_command()) as database:
        found = asyncio.run(_read(database))
    if as_json:
        write_json(found)
    else:
        _write(found)
    if worker is not None:
        _check(found, worker, longest_lag)


async def _read(database: Database) -> FanOut:
    from projections import lag

    async with await database.connect_async() as connection:
        return await lag.read(connection)


def _write(found: FanOut) -> None:
    write_table(
        ["worker", "held by", "works", "trouble"],
        [[state.worker, state.holder_name, state.alive, state.trouble or None] for state in found.workers],
    )
    write_table(
        ["consumer", "event position", "usage position", "seconds behind", "dead letters"],
        [
            [
                state.consumer,
                state.event_position,
                state.usage_position,
                round(state.lag_seconds, 3),
                state.dead_letters,
            ]
            for state in found.consumers
        ],
    )


def _check(found: FanOut, worker: str, longest_lag: float) -> None:
    from projections.registry import CONSUMERS_OF

    if not found.is_alive(worker):
        raise Failure(f"no process does the work of the {worker}")
    for name in CONSUMERS_OF[worker]:
        state = found.of(name)
        if state is not None and state.lag_seconds > longest_lag:
            raise Failure(f"{name} is {state.lag_seconds:.0f} s behind")
