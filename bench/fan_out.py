"""How fast events reach the queue and the views: `python -m bench.fan_out latency|relay|catch-up|rebuild [ROWS]`.

It starts a PostgreSQL and a RabbitMQ of its own, with relay and projector as processes of their own.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from uuid import UUID, uuid4

from bench.baselines import read_log
from commands.event_mapper import decoder
from commands.recorder import EVENTS_LOCK
from infra.postgres import Database
from projections.following import Follower
from projections.inline_views import InlineViews
from projections.projection import Projection
from projections.reading import ReadAhead, reader
from projections.rebuild import Rebuild
from projections.registry import ASYNCHRONOUS
from projections.seats import SEATS
from tests.support.client import eventually
from tests.support.cluster import Cluster
from tests.support.event_log import START, append, lives_of_licenses
from tests.support.orders import PlainEmails, activate, issue, running_writer, submitted
from tests.support.rabbit import Rabbit, VirtualHost
from tests.support.usage import Use, store
from tests.support.workers import WorkerProcess, are_at_the_end, identify
from workers.broker import Broker

COMMANDS_PER_SECOND = 500
SECONDS = 30
WARM_UP_SECONDS = 3
INLINE = Projection(name="licenses", tables=InlineViews.TABLES, apply_events=InlineViews(PlainEmails()).apply)


async def latency(database: Database, folder: Path, stack: ExitStack, rows: int) -> None:
    """500 activations a second for half a minute: from the answer of each to its row in the view `seats`."""
    del rows
    host = stack.enter_context(Rabbit()).new_host()
    for worker in ("relay", "projector"):
        stack.enter_context(WorkerProcess(database, worker, folder, host.url))
    answered: dict[str, float] = {}
    seen: list[tuple[float, int]] = []

    async def one(license_id: UUID, hardware_id: str) -> None:
        await writer.execute(submitted(activate(license_id, hardware_id)))
        answered[hardware_id] = time.monotonic()

    def watch() -> None:
        with database.connect() as connection:
            while not watched.is_set():
                row = connection.execute("SELECT max(position) AS position FROM seat_changes").fetchone()
                seen.append((time.monotonic(), (row or {}).get("position") or 0))
                time.sleep(0.002)

    watched = asyncio.Event()
    async with running_writer(database) as writer:
        licenses = [uuid4() for _ in range(100)]
        for license_id in licenses:
            await writer.execute(submitted(issue(license_id, 100_000)))
        watching = asyncio.create_task(asyncio.to_thread(watch))
        began = time.monotonic()
        tasks = []
        for number in range(COMMANDS_PER_SECOND * SECONDS):
            await asyncio.sleep(max(0.0, began + number / COMMANDS_PER_SECOND - time.monotonic()))
            tasks.append(asyncio.create_task(one(licenses[number % 100], f"pc-{number}")))
        await asyncio.gather(*tasks)
        await _until(lambda: are_at_the_end(database, "relay", "seats"))
        watched.set()
        await watching
    _print_latency(database, answered, seen, began + WARM_UP_SECONDS)


def _print_latency(database: Database, answered: dict[str, float], seen: list[tuple[float, int]], begin: float) -> None:
    decode = decoder()
    with database.connect() as connection:
        events = reader(decode)(connection, 0, len(answered) + 1000)
    delays: list[float] = []
    at = 0
    for position, event in events:
        hardware_id = getattr(getattr(event, "fact", None), "hardware_id", "")
        if hardware_id in answered and answered[hardware_id] > begin:
            while seen[at][1] < position:
                at += 1
            delays.append(max(0.0, seen[at][0] - answered[hardware_id]) * 1000)
    cuts = quantiles(delays, n=1000)
    print(f"{len(delays)} events: p50 {cuts[499]:.1f} ms, p99 {cuts[989]:.1f} ms, max {max(delays):.1f} ms")


async def relay(database: Database, folder: Path, stack: ExitStack, rows: int) -> None:
    """How long one relay takes for so many usage rows, into two quorum queues."""
    host = stack.enter_context(Rabbit()).new_host()
    store_usage(database, rows)
    print(f"relay: {await relay_rate(database, folder, host, rows):,.0f} messages a second")


async def relay_rate(database: Database, folder: Path, host: VirtualHost, rows: int) -> float:
    """Return how many of the stored usage rows one relay publishes a second, into two quorum queues of a new host."""
    await (await Broker.connect(host.url, "bench")).close()
    for queue in ("one", "two"):
        host.new_queue(queue)
    with WorkerProcess(database, "relay", folder, host.url) as worker:
        await _until(lambda: _position(database, "relay") > 0)
        began, passed = time.monotonic(), _position(database, "relay")
        await _until(lambda: are_at_the_end(database, "relay"))
        took = time.monotonic() - began
        worker.stop()
    return (rows - passed) / took


async def catch_up(database: Database, folder: Path, stack: ExitStack, rows: int) -> None:
    """How long each projection takes for so many rows of its logs."""
    del folder, stack
    store_usage(database, rows)
    append(database, lives_of_licenses(rows))
    for projection in ASYNCHRONOUS:
        with database.connect_worker("bench") as connection:
            began = time.monotonic()
            passed = Follower(projection, decoder()).catch_up(connection)
            print(f"{projection.name}: {passed / (time.monotonic() - began):,.0f} rows a second")


async def rebuild(database: Database, folder: Path, stack: ExitStack, rows: int) -> None:
    """How long rebuilding takes, against reading and decoding the same log."""
    del folder, stack
    append(database, lives_of_licenses(rows))
    base = read_log.seconds(database, "events")
    print(f"reading and decoding {rows:,} events: {base:.1f} s")
    for projection, lock in ((SEATS, None), (INLINE, EVENTS_LOCK)):
        took = rebuild_seconds(database, projection, lock)
        print(f"rebuild {projection.name}: {took:.1f} s, {took / base:.2f} times")


def rebuild_seconds(database: Database, projection: Projection, lock: int | None = None) -> float:
    """Return how long it takes to make a projection anew and put it in its place. See Rebuild for `lock`."""
    decode = decoder()
    with (
        database.connect_owner() as owner,
        database.connect_worker("read-ahead") as ahead,
        ReadAhead(ahead, decode) as read_events,
    ):
        began = time.monotonic()
        making = Rebuild(owner, projection, decode, lock, read_events)
        making.begin()
        making.fold(lambda _: None)
        making.swap()
        return time.monotonic() - began


def store_usage(database: Database, rows: int) -> None:
    """Put so many rows into the usage log, of one day and 5,000 licences."""
    for first in range(0, rows, 50_000):
        numbers = range(first, min(rows, first + 50_000))
        store(database, [Use(START, UUID(int=n % 5000 + 1), f"pc-{n % 3}", "license.validated") for n in numbers])


def _position(database: Database, consumer: str) -> int:
    with database.connect() as connection:
        row = connection.execute("SELECT usage_position FROM consumers WHERE consumer = %s", (consumer,)).fetchone()
    return int(row["usage_position"] or 0) if row else 0


async def _until(condition: Callable[[], bool]) -> None:
    async def asked() -> bool:
        return await asyncio.to_thread(condition)

    await eventually(asked, 600)


MEASUREMENTS = {"latency": latency, "relay": relay, "catch-up": catch_up, "rebuild": rebuild}


def main() -> None:
    name, *given = sys.argv[1:]
    rows = int(given[0]) if given else 100_000
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="lizenzserver-bench-")))
        database = stack.enter_context(Cluster()).new_database()
        identify(database)
        asyncio.run(MEASUREMENTS[name](database, folder, stack, rows))


if __name__ == "__main__":
    main()
