"""A server of the test suite as a process of its own: `python -m tests.support.server_process DATA_DIR PORT`.

The database is named by DATABASE_URL and has been migrated. It says `ready` once the port answers, and serves all
services there until SIGTERM.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import uvloop

from api.server import all_in_one
from cli.serve import serve
from infra import logs
from infra.first_start import ensure_credentials
from infra.postgres import Database
from tests.support.service import settings_for


def main() -> None:
    """Serve until a signal comes."""
    data_dir, port = Path(sys.argv[1]), int(sys.argv[2])
    url = os.environ["DATABASE_URL"]
    settings = settings_for(data_dir)
    logs.configure("json", "warning")
    secrets = ensure_credentials(settings, data_dir)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(serve(settings, Database(url, url), secrets, [(all_in_one(), port)], _say_ready))


def _say_ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
