"""`lizenzserver work`: one worker in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.output import say
from cli.teaching import examples

if TYPE_CHECKING:
    from contextlib import ExitStack

    from cli.signals import StopRequest

Name = Annotated[Literal["relay", "projector", "anomaly", "notary"], typer.Argument(help="Which work to do.")]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(
        cls=examples("""
            lizenzserver work projector
            AMQP_URL=amqp://licences@mq.example.com lizenzserver work relay
        """)
    )(work)


def work(name: Name) -> None:
    """Run one worker in the foreground until Ctrl-C or SIGTERM.

    `relay` publishes both logs to RabbitMQ; `projector` keeps the views for analytics up with the logs; `anomaly`
    watches them for anomalies, and needs the service key for that; `notary` signs
    what is in the event log. `serve` runs them in its own process, unless it is told --no-workers or --service. Of
    several processes that do the same work, one works and the others stand by.
    """
    from contextlib import ExitStack

    from cli.signals import Stopped, StopRequest

    with StopRequest() as stop:
        try:
            with ExitStack() as held:
                try:
                    _run(name, stop, held)
                finally:
                    stop.ignore()
        except Stopped:
            return


def _run(name: Literal["relay", "projector", "anomaly", "notary"], stop: StopRequest, held: ExitStack) -> None:
    import asyncio

    import uvloop

    from cli.database import opened_for_command, read_settings
    from cli.workers import work as working
    from infra import logs

    settings = read_settings()
    logs.configure(settings.log_format, settings.log_level)
    database = held.enter_context(opened_for_command(settings))
    what = "anomaly worker" if name == "anomaly" else name
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(working(name, settings, database, lambda: say(f"the {what} runs"), stop))
