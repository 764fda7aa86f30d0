"""Running the services in the foreground until a signal ends them."""

from __future__ import annotations

import asyncio
import gc
import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress

from aiohttp import web

from api.connections import Runner
from api.edge import answer_unreadable
from api.server import SERVICES, Service, all_in_one, application
from api.services import Services
from cli.composition import running_services
from cli.listening import port_taken
from cli.signals import StopRequest
from cli.version import VERSION
from cli.workers import running_workers
from infra.first_start import Credentials
from infra.postgres import Database, watched
from infra.settings import Settings
from workers.housekeeping import Housekeeping

log = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 10.0
"""How long requests that are under way may take once a signal has come."""


def chosen(ports: Mapping[str, int]) -> list[tuple[Service, int]]:
    """Return the services named, each with its port; `all` is every service as one."""
    return [(service, ports[service.name]) for service in (*SERVICES, all_in_one()) if service.name in ports]


async def serve(  # noqa: PLR0913, PLR0917 - what it serves, with what, and whom it tells
    settings: Settings,
    database: Database,
    secrets: Credentials,
    services_and_ports: Sequence[tuple[Service, int]],
    on_ready: Callable[[], None],
    stop: StopRequest | None = None,
    *,
    workers: bool = True,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is under way. `on_ready` is called once all ports answer.

    With `workers`, all workers run in this process too. The handlers of the signals are those of `stop` where
    it is given. Raises Failure where a port can't be had.
    """
    async with AsyncExitStack() as held:
        stopping = (stop or held.enter_context(StopRequest())).as_event()
        database = await held.enter_async_context(watched(database))
        services = await held.enter_async_context(running_services(settings, database, secrets))
        runners: list[web.AppRunner] = []
        held.push_async_callback(_clean_up, runners)
        for service, port in services_and_ports:
            await _start(settings, services, service, port, runners)
        keeper = asyncio.create_task(_housekeeping(services).run())
        held.push_async_callback(_cancel, keeper)
        if workers:
            await held.enter_async_context(running_workers(settings, database))
        _settle_memory()
        on_ready()
        await stopping.wait()
        log.info("stopping: finishing requests that are under way")


def _settle_memory() -> None:
    """Have the garbage collector look at what requests leave, not again and again at what is there for good.

    Requests leave hardly any cycles. A full collection held up all of them for 100 ms and more.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 50)


async def _clean_up(runners: Sequence[web.AppRunner]) -> None:
    await asyncio.gather(*(runner.cleanup() for runner in runners))


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _start(
    settings: Settings, services: Services, service: Service, port: int, runners: list[web.AppRunner]
) -> None:
    app = application(service, services, VERSION)
    runner = Runner(app, answer_unreadable(services), shutdown_seconds=SHUTDOWN_SECONDS)
    runners.append(runner)
    await runner.setup()
    site = web.TCPSite(runner, settings.host, port, ssl_context=_tls(settings), backlog=1024)
    try:
        await site.start()
    except OSError as error:
        raise port_taken(settings.host, port, service.name, error) from None


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
