"""The workers, put together: in the process that serves, or in processes of their own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, Literal, Protocol

from psycopg import Connection

from cli.core import compose_core
from cli.errors import Failure
from cli.signals import StopRequest
from commands.event_mapper import decoder
from commands.recorder import LicensingRecorder
from domain.facts import Recorded
from infra import thresholds
from infra.notary_key import KeptCheckpoint, NotaryKey, verify
from infra.places import Places
from infra.postgres import Database, watched
from infra.senders import Senders
from infra.settings import Settings
from projections.following import MOST_USAGE_ROWS, Follower
from projections.registry import ASYNCHRONOUS
from workers.anomaly import AnomalyWorker
from workers.detection import Parts
from workers.feed import ClockFeed, Feed, QueueFeed
from workers.log_reader import installation
from workers.notary import Notary
from workers.projector import Projector
from workers.pushing import pushes
from workers.relay import Relay

log = logging.getLogger(__name__)

WorkerName = Literal["relay", "projector", "anomaly", "notary"]

USAGE_ROWS_BESIDE_SERVICES = 2_000
"""A batch in the process that serves: its transaction is short."""

IDENTITY_SECONDS = 0.5
PAUSE_SECONDS = 5.0
"""Between a worker that failed in an unforeseen way and its next start."""


class Worker(Protocol):
    """Something that works until it is cancelled."""

    async def run(self) -> None:
        """Work until cancelled."""


def _amqp_url(name: WorkerName, settings: Settings) -> str | None:
    if settings.amqp_url is None:
        if name == "relay":
            raise Failure("AMQP_URL is not set: there is no broker to relay to")
        return None
    return settings.amqp_url.reveal()


async def _run(name: WorkerName, settings: Settings, database: Database, *, beside_services: bool = False) -> None:
    amqp_url = _amqp_url(name, settings)
    instance = await _instance(database)
    with ExitStack() as held:
        worker: Worker
        match name:
            case "relay":
                assert amqp_url is not None
                worker = Relay(partial(database.connect_async_worker, name), amqp_url, decoder(), instance)
            case "projector":
                most_rows = USAGE_ROWS_BESIDE_SERVICES if beside_services else MOST_USAGE_ROWS
                followers = [Follower(projection, decoder(), most_usage_rows=most_rows) for projection in ASYNCHRONOUS]
                worker = Projector(partial(database.connect_worker, name), followers, _feed(amqp_url, name, instance))
            case "anomaly":
                parts = _detection(settings, database, instance, held)
                worker = AnomalyWorker(partial(database.connect_worker, name), parts, _feed(amqp_url, name, instance))
            case "notary":
                worker = _notary(settings, database, instance)
        await worker.run()


def _notary(settings: Settings, database: Database, instance: str) -> Notary:
    """Put the notary together. Raises KeyringError."""
    key = NotaryKey.open(settings, instance)
    connect = partial(database.connect_async_worker, "notary")
    return Notary(connect, key.verifier, key.sign, verify, KeptCheckpoint(settings.data_dir), pushes(settings))


def _detection(settings: Settings, database: Database, instance: str, held: ExitStack) -> Parts:
    """Put together what the anomaly worker works with; `held` closes it. Raises ForeignDatabase and KeyringError."""
    places = Places(settings.geo_database) if settings.geo_database else None
    if places is not None:
        held.callback(places.close)
    core = compose_core(settings, database)
    held.callback(core.application.close)

    recorder = core.application.recorder
    assert isinstance(recorder, LicensingRecorder)

    def record(connection: Connection[Any], events: Sequence[Recorded], first: Callable[[Any], object]) -> None:
        # Storing what is remembered may take a tenth of a second: orders must not wait for that.
        recorder.begin_with(connection, first)
        core.application.events.put(events, recorded=events, connection=connection, has_lock=True)

    return Parts(
        decode=decoder(),
        senders=Senders(core.vault, places),
        seal=core.vault.seal,
        record=record,
        instance=instance,
        thresholds=thresholds.in_effect(settings.anomaly_thresholds),
    )


def _feed(amqp_url: str | None, worker: str, instance: str) -> Callable[[], Feed]:
    return ClockFeed if amqp_url is None else partial(QueueFeed, amqp_url, worker, instance)


async def _instance(database: Database) -> str:
    """Wait for the first start of a service, which gives the installation its name."""
    async with await database.connect_async_worker("start") as connection:
        while (name := await installation(connection)) is None:  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(IDENTITY_SECONDS)
    return name


@asynccontextmanager
async def running_workers(settings: Settings, database: Database) -> AsyncIterator[None]:
    """Run all workers that the settings ask for in this process."""
    names: list[WorkerName] = ["projector", "anomaly", "notary"]
    if settings.amqp_url is not None:
        names.append("relay")
    async with watched(database) as felt:
        tasks = [asyncio.create_task(_supervised(name, settings, felt), name=name) for name in names]
        try:
            yield
        finally:
            _let_go(felt)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _let_go(database: Database) -> None:
    """Let no turn of a worker wait any longer for a database that is away: the process ends."""
    if database.pulse is not None:
        database.pulse.let_go()


async def work(
    name: WorkerName, settings: Settings, database: Database, on_ready: Callable[[], None], stop: StopRequest
) -> None:
    """Run one worker until a signal comes. Whatever it did not foresee ends the process.

    Raises Failure where a setting that it needs is missing.
    """
    stopping = stop.as_event()
    _amqp_url(name, settings)
    async with watched(database) as felt:
        working = asyncio.create_task(_run(name, settings, felt), name=name)
        waiting = asyncio.create_task(stopping.wait())
        on_ready()
        await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if working.done():
            await working
        _let_go(felt)
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working


async def _supervised(name: WorkerName, settings: Settings, database: Database) -> None:
    while True:
        try:
            await _run(name, settings, database, beside_services=True)
        except Exception:
            log.exception("the %s failed, and starts again in %.0f s", name, PAUSE_SECONDS)
        await asyncio.sleep(PAUSE_SECONDS)
