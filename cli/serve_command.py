"""`lizenzserver serve`: from nothing to ready, and back to nothing left running."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from cli.teaching import ServeHelp

if TYPE_CHECKING:
    from contextlib import ExitStack

    from cli.signals import StopRequest

ServiceName = Literal["auth", "license", "analytics", "admin"]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(cls=ServeHelp)(serve)


def serve(
    service: Annotated[ServiceName | None, typer.Option(help="Run only this service; default: all of them.")] = None,
    single_port: Annotated[
        bool, typer.Option("--single-port", help="Serve everything on one port, SINGLE_PORT.")
    ] = False,
    no_workers: Annotated[
        bool, typer.Option("--no-workers", help="Leave the workers to `lizenzserver work`, as --service does.")
    ] = False,
) -> None:
    """Run the services in the foreground until Ctrl-C or SIGTERM.

    Brings up the embedded database, unless DATABASE_URL names another, and the schema. What is ready, and where, is
    printed on stdout; the log goes to stderr.
    """
    if service is not None and single_port:
        raise typer.BadParameter("give either --service or --single-port")
    # Imported here, since --help should not wait for it.
    from contextlib import ExitStack

    from cli.signals import Stopped, StopRequest

    with StopRequest() as stop:
        try:
            with ExitStack() as held:
                try:
                    _run(service, single_port, not no_workers and service is None, stop, held)
                finally:
                    stop.ignore()
        except Stopped:
            return


def _run(service: ServiceName | None, single_port: bool, workers: bool, stop: StopRequest, held: ExitStack) -> None:
    import asyncio
    import os
    from importlib import import_module
    from threading import Thread

    import uvloop

    from cli.banner import Banner
    from cli.database import bring_up_to_date, opened, read_settings
    from cli.listening import check_port
    from cli.output import working
    from infra import logs
    from infra.data_folder import DataFolderLock
    from infra.first_start import ensure_credentials
    from infra.migrations import migrations

    settings = read_settings()
    logs.configure(settings.log_format, settings.log_level)
    if settings.database_url is None:
        held.enter_context(DataFolderLock(settings.data_dir))
    names = ["all"] if single_port else [service] if service else list(get_args(ServiceName))
    ports = {name: int(getattr(settings, "single_port" if name == "all" else f"{name}_port")) for name in names}
    for name, port in ports.items():
        check_port(settings.host, port, name)
    # Half a second of imports, while PostgreSQL starts.
    Thread(target=import_module, args=("cli.serve",), daemon=True).start()
    with working("Preparing the database"):
        database = held.enter_context(opened(settings, keep_up=True))
        applied = bring_up_to_date(database)
    secrets = ensure_credentials(settings, settings.data_dir)
    is_first = bool(secrets.fresh) or applied == len(migrations())
    banner = Banner(settings, list(ports.items()), is_first, os.environ)
    from cli.serve import chosen
    from cli.serve import serve as serving

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving(settings, database, secrets, chosen(ports), banner.print, stop, workers=workers))
