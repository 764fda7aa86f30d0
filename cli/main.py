"""`lizenzserver`: the command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    import asyncio
    import os
    from pathlib import Path

    import uvloop

    from cli.serve import chosen, serve
    from infra import logs
    from infra.embedded_postgres import EmbeddedPostgres
    from infra.first_start import ensure_credentials
    from infra.migrations import migrate
    from infra.postgres import Database
    from infra.settings import load_settings

    settings = load_settings(os.environ, Path(".env"))
    logs.configure(settings.log_format, settings.log_level)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    if settings.database_url is None:
        pg = EmbeddedPostgres(settings.data_dir)
        pg.start()
        database = Database(pg.url(), pg.url())
    else:
        database = Database(settings.database_url.reveal(), settings.database_owner_url.reveal())
    migrate(database, print)
    secrets = ensure_credentials(settings, settings.data_dir)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(serve(settings, database, secrets, chosen(None, single_port=False, settings=settings), lambda: print("ready", flush=True)))
    if settings.database_url is None:
        pg.stop()
    sys.exit(0)
