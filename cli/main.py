"""`lizenzserver`: the command line. Each command group is a file; heavy parts are imported when a command runs."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cli import (
    admins,
    audit,
    backtest_command,
    customers,
    dead_command,
    demo_command,
    keys,
    licenses,
    migrate_command,
    rebuild_command,
    replay_command,
    serve_command,
    status_command,
    tail_command,
    thresholds_command,
    usage_commands,
    work_command,
)
from cli.errors import explain
from cli.output import fail
from cli.teaching import WithSettings
from cli.version import VERSION

_GROUPS = (
    serve_command,
    work_command,
    status_command,
    migrate_command,
    keys,
    licenses,
    customers,
    admins,
    audit,
    dead_command,
    rebuild_command,
    tail_command,
    replay_command,
    demo_command,
    backtest_command,
    usage_commands,
    thresholds_command,
)


def build() -> typer.Typer:
    """Put the commands together."""
    app = typer.Typer(
        cls=WithSettings,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown" if sys.stdout.isatty() else None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_about)
    for group in _GROUPS:
        group.register(app)
    return app


def main() -> None:
    """Run the command that this process was started with."""
    # Both signals unwind what a command has begun, such as an embedded server that was started for it.
    signal.signal(signal.SIGTERM, _interrupt)
    run(sys.argv[1:])


def _interrupt(*_: object) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So a shell starts what runs in the background: Ctrl-C is not meant for it, but SIGTERM is.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


def run(arguments: Sequence[str]) -> None:
    """Run a command; leave with 0, with 1 after one line on stderr that says what is wrong, with 2 for wrong usage."""
    try:
        build()(args=list(arguments), prog_name="lizenzserver")
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        fail(line)
        sys.exit(1)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lizenzserver {VERSION}")
        raise typer.Exit


def _about(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """A self-hosted licensing service: every activation is an immutable event, all else follows from it."""
