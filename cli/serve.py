"""Running the services in the foreground until a signal ends them."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress

from aiohttp import web

from api.server import SERVICES, Service, all_in_one, application
from api.services import Services
from cli.composition import running_services
from infra.first_start import Credentials
from infra.postgres import Database
from infra.settings import Settings
from workers.housekeeping import Housekeeping

log = logging.getLogger(__name__)

VERSION = "0.1.0"
SHUTDOWN_SECONDS = 10.0
"""How long requests that are under way may take once a signal has come."""

KEEPALIVE_SECONDS = 30.0


def chosen(name: str | None, *, single_port: bool, settings: Settings) -> list[tuple[Service, int]]:
    """Return the services to run, each with its port."""
    if single_port:
        return [(all_in_one(), settings.single_port)]
    return [
        (service, getattr(settings, f"{service.name}_port")) for service in SERVICES if name in (None, service.name)
    ]


async def serve(
    settings: Settings,
    database: Database,
    secrets: Credentials,
    services_and_ports: Sequence[tuple[Service, int]],
    on_ready: Callable[[], None],
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is under way. `on_ready` is called once all ports answer."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running_services(settings, database, secrets) as services:
        runners = [await _start(settings, services, service, port) for service, port in services_and_ports]
        keeper = asyncio.create_task(_housekeeping(services).run())
        try:
            on_ready()
            await stop.wait()
            log.info("stopping: finishing requests that are under way")
        finally:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper
            await asyncio.gather(*(runner.cleanup() for runner in runners))


async def _start(settings: Settings, services: Services, service: Service, port: int) -> web.AppRunner:
    runner = web.AppRunner(
        application(service, services, VERSION),
        access_log=None,
        shutdown_timeout=SHUTDOWN_SECONDS,
        keepalive_timeout=KEEPALIVE_SECONDS,
        handle_signals=False,
    )
    await runner.setup()
    site = web.TCPSite(runner, settings.host, port, ssl_context=_tls(settings), backlog=1024)
    await site.start()
    return runner


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.tls_cert, settings.tls_key)
    return context


def _housekeeping(services: Services) -> Housekeeping:
    return Housekeeping(
        services.pool,
        services.clock,
        services.keyring,
        services.settings.usage_retention_days,
        lambda: services.metrics.count("housekeeping_rounds_total", "Rounds of housekeeping"),
    )
