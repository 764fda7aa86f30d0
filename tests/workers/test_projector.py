"""The views follow the logs, with RabbitMQ and without, whatever happens to the projector."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection

from commands.event_mapper import decoder
from infra.postgres import Database
from projections import dead_letters
from projections.following import Follower
from projections.registry import ASYNCHRONOUS
from tests.support.client import eventually
from tests.support.event_log import START, append, lives_of_licenses
from tests.support.rabbit import Rabbit
from tests.support.usage import Use, store
from tests.support.within import within
from tests.support.worker_plant import MOST_WORKERS, TURN_SECONDS
from tests.support.workers import WorkerProcess, are_at_the_end, differing_rows, holder, identify
from workers.broker import Broker, queue_name
from workers.feed import ClockFeed
from workers.projector import Projector

TAKEOVER_SECONDS = 10.0


@pytest.fixture
def database(database: Database) -> Database:
    identify(database)
    return database


@pytest.fixture(params=["without a broker", "with RabbitMQ"])
def amqp_url(request: pytest.FixtureRequest) -> str | None:
    if request.param == "without a broker":
        return None
    rabbit: Rabbit = request.getfixturevalue("rabbit")
    return rabbit.new_host().url


@pytest.fixture
def relay(database: Database, amqp_url: str | None, tmp_path: Path) -> Iterator[WorkerProcess | None]:
    if amqp_url is None:
        yield None
        return
    with WorkerProcess(database, "relay", tmp_path, amqp_url) as process:
        yield process


def add_rows(database: Database, number: int, size: int = 300) -> None:
    """Append a batch of both logs."""
    append(database, lives_of_licenses(size, seed=number))
    licenses = [UUID(int=n % 7 + 1) for n in range(size)]
    store(
        database, [Use(START, license_id, f"pc-{n % 50}", "license.validated") for n, license_id in enumerate(licenses)]
    )


async def caught_up(database: Database) -> None:
    await eventually(_async(lambda: are_at_the_end(database)))


def _async(condition: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    async def asked() -> object:
        return await asyncio.to_thread(condition)

    return asked


async def test_views_follow(
    database: Database, relay: WorkerProcess | None, amqp_url: str | None, tmp_path: Path
) -> None:
    add_rows(database, 1)
    with WorkerProcess(database, "projector", tmp_path, amqp_url) as projector:
        await caught_up(database)
        for number in range(2, 6):
            add_rows(database, number)
            await caught_up(database)
        assert projector.stop() == 0
    assert differing_rows(database) == {}
    assert holder(database, "projector") is None, "its place is free at once"


async def test_killed_again_and_again_it_applies_all_once_and_sets_nothing_aside(
    database: Database, relay: WorkerProcess | None, amqp_url: str | None, tmp_path: Path
) -> None:
    # The lease of a killed holder would make each round take seconds.
    with database.connect() as connection:
        for number in range(20 if amqp_url else 5):
            connection.execute("DELETE FROM leases WHERE worker = 'projector'")
            with WorkerProcess(database, "projector", tmp_path, amqp_url) as projector:
                add_rows(database, number, 100)
                await eventually(_async(lambda: holder(database, "projector") == projector.pid))
                add_rows(database, 1000 + number, 100)
                await asyncio.sleep(0.01 * (number % 5))  # somewhere in its work
                projector.kill()
        connection.execute("DELETE FROM leases WHERE worker = 'projector'")
        with WorkerProcess(database, "projector", tmp_path, amqp_url):
            await caught_up(database)
        assert dead_letters.listed(connection) == []
    assert differing_rows(database) == {}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_another_one_takes_over(database: Database, tmp_path: Path, number: signal.Signals) -> None:
    with WorkerProcess(database, "projector", tmp_path) as one, WorkerProcess(database, "projector", tmp_path) as other:
        first = await eventually(_async(lambda: holder(database, "projector")))
        working, standby = (one, other) if first == one.pid else (other, one)
        add_rows(database, 1)
        await caught_up(database)
        assert holder(database, "projector") == working.pid

        working.send(number)
        async with within(TAKEOVER_SECONDS):
            add_rows(database, 2)
            await caught_up(database)
        assert holder(database, "projector") == standby.pid

        if number == signal.SIGSTOP:
            working.send(signal.SIGCONT)
            add_rows(database, 3)
            await caught_up(database)
    assert differing_rows(database) == {}


def gets_word(worker: WorkerProcess) -> bool:
    """Tell whether a worker takes messages from its queue."""
    return "comes from RabbitMQ" in worker.log()


async def test_every_message_three_times_and_in_no_order(database: Database, rabbit: Rabbit, tmp_path: Path) -> None:
    host = rabbit.new_host()
    await (await Broker.connect(host.url, "test")).close()
    host.new_queue("analyst")
    with WorkerProcess(database, "projector", tmp_path, host.url) as projector:
        await eventually(_async(partial(gets_word, projector)))
        projector.send(signal.SIGSTOP)  # its queue is there, and fills
        add_rows(database, 1)
        with WorkerProcess(database, "relay", tmp_path, host.url):
            await eventually(_async(lambda: are_at_the_end(database, "relay")))
        messages = [taken.event for taken in host.take("analyst")] * 3
        Random(1).shuffle(messages)
        with host.channel() as channel:
            for event in messages:
                channel.basic_publish("", queue_name("projector"), json.dumps(event).encode())
        projector.send(signal.SIGCONT)
        await caught_up(database)

    async def all_are_delivered() -> bool:
        return await asyncio.to_thread(host.size, queue_name("projector")) == 0

    for _ in range(MOST_WORKERS):
        with WorkerProcess(database, "projector", tmp_path, host.url) as projector:
            await eventually(_async(partial(gets_word, projector)))
            await eventually(all_are_delivered)
            await asyncio.sleep(TURN_SECONDS)
            assert projector.stop() == 0
        if await all_are_delivered():
            break
    assert host.size(queue_name("projector")) == 0, "what was not acked would have come back"
    assert host.size(f"{queue_name('projector')}.dead") == 0
    assert differing_rows(database) == {}


async def test_without_the_broker_views_go_on(database: Database, rabbit: Rabbit, tmp_path: Path) -> None:
    nobody = f"amqp://guest:guest@127.0.0.1:{rabbit.port}/no-such-host"
    with WorkerProcess(database, "projector", tmp_path, nobody):
        for number in range(3):
            add_rows(database, number)
            await caught_up(database)


async def test_connections_that_are_cut_are_made_again(database: Database, tmp_path: Path) -> None:
    with WorkerProcess(database, "projector", tmp_path), database.connect_login() as login:
        await eventually(_async(lambda: holder(database, "projector")))
        for number in range(10):
            add_rows(database, number, 100)
            login.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'lizenzserver-projector' AND datname = current_database()"
            )
        await caught_up(database)
    assert differing_rows(database) == {}


async def test_an_outage_is_said_once(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    away, attempts = True, 0

    def connect() -> Connection[Any]:
        nonlocal attempts
        attempts += 1
        if away:
            raise psycopg.OperationalError("nobody is there\nor nobody listens")
        return database.connect_worker("test")

    followers = [Follower(projection, decoder()) for projection in ASYNCHRONOUS]
    with caplog.at_level(logging.INFO, "workers.turns"):
        working = asyncio.create_task(Projector(connect, followers, ClockFeed).run())
        try:
            await eventually(_async(lambda: attempts >= 4))
            away = False
            await eventually(_async(lambda: holder(database, "projector")))
            await eventually(_async(lambda: "works" in caplog.text))
        finally:
            working.cancel()
            await asyncio.wait([working])
    assert caplog.messages == ["the projector waits: nobody is there", "the projector works"]


async def test_one_bad_event_holds_up_nobody(
    database: Database, relay: WorkerProcess | None, amqp_url: str | None, tmp_path: Path
) -> None:
    bad = uuid4()
    with database.connect_owner() as owner:
        owner.execute(
            "CREATE FUNCTION lizenzserver.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF NEW.license_id = '{bad}' THEN RAISE 'no'; END IF; RETURN NEW; END $$;"
            " CREATE TRIGGER refuse BEFORE INSERT ON lizenzserver.device_days"
            " FOR EACH ROW EXECUTE FUNCTION lizenzserver.refuse()"
        )
    with WorkerProcess(database, "projector", tmp_path, amqp_url) as projector:
        add_rows(database, 1)
        store(database, [Use(START, bad)])
        add_rows(database, 2)
        await caught_up(database)
        with database.connect() as connection:
            (letter,) = dead_letters.listed(connection)
        assert (letter.consumer, letter.log, letter.position) == ("devices-seen", "usage", 301)
        await eventually(_async(lambda: "aside" in projector.log()))
        assert projector.log().count("aside") == 1, "one alert"
    assert differing_rows(database) == {}


@pytest.mark.parametrize("broken", ["usage_days", "device_days", "seat_days"])
async def test_a_view_that_can_not_be_written_holds_up_no_other(database: Database, broken: str) -> None:
    add_rows(database, 1)
    with database.connect_owner() as owner:
        owner.execute(f"REVOKE INSERT ON lizenzserver.{broken} FROM lizenzserver_service")
    followers = [Follower(projection, decoder()) for projection in ASYNCHRONOUS]
    working = asyncio.create_task(Projector(lambda: database.connect_worker("test"), followers, ClockFeed).run())
    try:

        def written() -> set[str]:
            with database.connect() as connection:
                tables = ("usage_days", "device_days", "seat_days")
                return {table for table in tables if connection.execute(f"SELECT FROM {table} LIMIT 1").rowcount}

        await eventually(_async(lambda: len(written()) == 2))
        assert written() == {"usage_days", "device_days", "seat_days"} - {broken}
        with database.connect_owner() as owner:
            owner.execute(f"GRANT INSERT ON lizenzserver.{broken} TO lizenzserver_service")
        await caught_up(database)
    finally:
        working.cancel()
        await asyncio.wait([working])
    assert differing_rows(database) == {}


def test_what_not_every_view_has_is_not_said_to_be_applied(database: Database) -> None:
    """Word of it stays in the queue until the slowest view has it."""
    add_rows(database, 1)
    sizes = [10, 200, 50]
    followers = [
        Follower(projection, decoder(), size, size) for projection, size in zip(ASYNCHRONOUS, sizes, strict=True)
    ]
    projector = Projector(lambda: database.connect_worker("test"), followers, ClockFeed)
    with database.connect_worker("test") as connection:
        turn = projector._work(connection)
        read = connection.execute("SELECT consumer, event_position, usage_position FROM consumers").fetchall()
    names = {follower.projection.name: follower.projection.logs for follower in followers}
    usage = [row["usage_position"] for row in read if "usage" in names.get(row["consumer"], ())]
    events = [row["event_position"] for row in read if "events" in names.get(row["consumer"], ())]
    assert len(set(usage)) > 1, "else this shows nothing"
    assert (turn.usage_position, turn.event_position) == (min(usage), min(events))
    assert turn.more
    assert not turn.caught_up
