"""The service inside the test's own event loop: all of it is real but the process border."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from api.connections import Runner
from api.edge import answer_unreadable
from api.server import all_in_one, application
from api.services import Services
from cli.composition import running_services
from cli.workers import running_workers
from infra.first_start import ensure_credentials
from infra.postgres import Database
from infra.settings import Settings, load_settings
from tests.support.client import Client, Secrets

PATIENT = {"USAGE_WAIT_MS": "20000"}
"""With it, who has an answer finds its row in the usage log, also where the machine stands still for a second.

By default it would come a little later then.
"""


def settings_for(data_dir: Path, **more: str) -> Settings:
    """Return settings of a service under test, which trusts this machine as a proxy."""
    secrets = Secrets()
    environ = {
        "DATA_DIR": str(data_dir),
        "ADMIN_API_KEY": secrets.admin_api_key,
        "ADMIN_SECRET": secrets.admin_secret,
        "CLIENT_TOKEN": secrets.client_token,
        "ADMIN_TOKEN": secrets.admin_token,
        "TRUSTED_PROXIES": "127.0.0.0/8",
        **more,
    }
    return load_settings(environ, None)


@asynccontextmanager
async def running(settings: Settings, database: Database) -> AsyncIterator[tuple[Services, Client]]:
    """Run all services on one free port; give their parts and a client with an API key without limits."""
    secrets = ensure_credentials(settings, settings.data_dir)
    async with running_services(settings, database, secrets) as services, running_workers(settings, database):
        runner = Runner(application(all_in_one(), services, "test"), answer_unreadable(services))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            async with aiohttp.ClientSession() as session:
                client = Client(session, f"http://127.0.0.1:{port}", Secrets())
                client.api_key = (await client.new_api_key())["api_key"]
                yield services, client
        finally:
            await runner.cleanup()
