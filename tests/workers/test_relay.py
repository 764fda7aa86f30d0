"""The relay: all rows of both logs, in order; what it says where it can't; one works while others stand by."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import psycopg
import pytest

from infra.postgres import Database
from tests.support.client import eventually
from tests.support.rabbit import Rabbit, VirtualHost
from tests.support.relay_process import ROOT, relay_process
from tests.support.relaying import (
    INSTANCE,
    QUEUE,
    arrived,
    drained,
    fill,
    log_positions,
    positions,
    relaying,
    sequences,
)
from tests.support.within import within
from workers.broker import Broker
from workers.relay import Relay, State

TAKEOVER_SECONDS = 10
CONCURRENT_ROWS = int(os.environ.get("RELAY_TEST_ROWS", "10000"))
"""Rows of the test with four writers; the long run sets 1000000."""


async def in_state(relay: Relay, state: State) -> None:
    async def reached() -> bool:
        return relay.state == state

    await eventually(reached)


async def with_queue(host: VirtualHost, name: str = QUEUE) -> None:
    """Make an analyst's queue before there is anything to publish."""
    await (await Broker.connect(host.url, "test")).close()
    await asyncio.to_thread(host.new_queue, name)


async def expect_all(database: Database, host: VirtualHost, seconds: float = 60.0) -> None:
    """Wait until the relay has caught up; then the queue holds all rows of both logs, in order."""
    await eventually(lambda: drained(database), seconds)
    events, usage = await arrived(host)
    assert (sequences(events), sequences(usage)) == log_positions(database)


def end_others(database: Database) -> None:
    """End the relays' sessions in the database."""
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        ended = owner.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'lizenzserver-usage'"
        )
        assert ended.rowcount > 0


async def test_all_rows_of_both_logs_come_in_order(database: Database, host: VirtualHost) -> None:
    await with_queue(host)
    fill(database, events=300, usage=2500)
    async with relaying(database, host.url) as relay:
        await eventually(lambda: drained(database))
        fill(database, events=30, usage=30)
        await expect_all(database, host)
        assert (relay.state, relay.published) == ("relaying", sum(map(len, log_positions(database))))


async def test_messages_carry_what_programs_go_by(database: Database, host: VirtualHost) -> None:
    await with_queue(host)
    fill(database, events=1, usage=1)
    async with relaying(database, host.url):
        await eventually(lambda: drained(database))
    for [taken] in await arrived(host):
        properties = taken.properties
        assert taken.key == taken.event["type"] == properties.type
        assert properties.message_id == taken.event["id"]
        assert properties.content_type == "application/cloudevents+json"
        assert properties.delivery_mode == 2
        assert properties.timestamp is not None


async def test_catching_up_takes_no_pauses(
    database: Database, host: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that the sequence counts as settled at once, and the table is looked at but once a second.
    monkeypatch.setattr("workers.log_reader.SETTLE_SECONDS", 0.0)
    monkeypatch.setattr("workers.relay.MOST_ROWS", 20)
    fill(database, usage=1000)
    async with relaying(database, host.url):
        await eventually(lambda: drained(database))


async def test_what_nobody_is_bound_to_is_kept(database: Database, host: VirtualHost) -> None:
    fill(database, events=5, usage=5)
    async with relaying(database, host.url):
        await eventually(lambda: drained(database))
    events, usage = await arrived(host, "licenses.unrouted")
    assert (len(events), len(usage)) == (5, 5)


async def test_a_relay_goes_on_where_another_one_ended(database: Database, host: VirtualHost) -> None:
    await with_queue(host)
    fill(database, events=10, usage=10)
    async with relaying(database, host.url):
        await eventually(lambda: drained(database))
    fill(database, events=10, usage=10)
    async with relaying(database, host.url) as second:
        await eventually(lambda: drained(database))
        assert second.published == 20
    await expect_all(database, host)


async def test_an_unroutable_message_holds_the_position(
    database: Database, host: VirtualHost, rabbit: Rabbit, caplog: pytest.LogCaptureFixture
) -> None:
    async with relaying(database, host.url) as relay:
        await in_state(relay, "relaying")
        # Nobody is bound, the queue for that case is gone, and the relay may not make it again.
        with host.channel() as channel:
            channel.queue_delete("licenses.unrouted")
        permit = ("set_permissions", "-p", host.url.rpartition("/")[2], "guest")
        await asyncio.to_thread(rabbit.control, *permit, "^$", ".*", ".*")
        fill(database, events=5, usage=5)
        await in_state(relay, "message unroutable")
        await in_state(relay, "broker away")
        assert (positions(database), relay.published) == ((0, 0), 0)
        await asyncio.to_thread(rabbit.control, *permit, ".*", ".*", ".*")
        await eventually(lambda: drained(database))
        assert relay.state == "relaying"
    events, usage = await arrived(host, "licenses.unrouted")
    assert (len(events), len(usage)) == (5, 5)
    assert [record.levelname for record in caplog.records if "message unroutable" in record.message] == ["ERROR"]


async def test_an_event_that_cannot_be_read_is_not_passed_over(
    database: Database, host: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    await with_queue(host)
    fill(database, events=3)
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO licensing_events (originator_id, originator_version, topic, state)"
            " VALUES (gen_random_uuid(), 1, 'license.from_the_future', '{}')"
        )
    fill(database, events=3, usage=5)
    async with relaying(database, host.url) as relay:
        await in_state(relay, "event unreadable")

        async def others_go_on() -> bool:
            return positions(database)[1] > 0

        await eventually(others_go_on)
        assert relay.reason == "the event at position 4 can't be read"
    events, usage = await arrived(host)
    assert (sequences(events), len(usage)) == ([1, 2, 3], 5)
    assert positions(database)[0] == 3
    assert "ERROR" in {record.levelname for record in caplog.records if "position 4" in record.message}


async def test_a_lost_database_connection_is_made_again(database: Database, host: VirtualHost) -> None:
    await with_queue(host)
    async with relaying(database, host.url) as relay:
        await in_state(relay, "relaying")
        end_others(database)
        fill(database, events=5, usage=5)
        await expect_all(database, host)


async def test_four_writers_at_a_time_and_no_row_is_skipped(database: Database, host: VirtualHost) -> None:
    await with_queue(host)
    share = CONCURRENT_ROWS // 4
    fill(database, usage=1)
    command = [sys.executable, "-m", "tests.support.usage_writer", database.url, str(share)]
    async with relaying(database, host.url):
        writers = [await asyncio.create_subprocess_exec(*command, cwd=ROOT) for _ in range(4)]
        assert await asyncio.gather(*(writer.wait() for writer in writers)) == [0] * 4
        await eventually(lambda: drained(database), 3600)
    stored = log_positions(database)[1]
    assert len(stored) == 4 * share + 1
    came = await asyncio.to_thread(lambda: [int(one.event["sequence"]) for one in host.each(QUEUE)])
    assert list(dict.fromkeys(came)) == stored


async def test_one_killed_before_it_saved_its_position_publishes_the_same_again(
    database: Database, host: VirtualHost
) -> None:
    await with_queue(host)
    fill(database, events=20, usage=20)
    with database.connect() as holder:
        # The row can't be changed: what is published and confirmed can't be noted.
        holder.execute("INSERT INTO consumers (consumer) VALUES ('relay')")
        with relay_process(database, host.url, INSTANCE) as first, holder.transaction():
            holder.execute("SELECT FROM consumers WHERE consumer = 'relay' FOR UPDATE")

            async def published() -> bool:
                return await asyncio.to_thread(host.size, QUEUE) >= 40

            await eventually(published)
            first.kill()
            first.wait()
            # The server would still carry out what the dead process has asked for.
            end_others(database)
    assert positions(database) == (0, 0)
    before = await asyncio.to_thread(host.take, QUEUE)
    async with relaying(database, host.url):
        await eventually(lambda: drained(database))
    after = await asyncio.to_thread(host.take, QUEUE)
    assert [one.properties.message_id for one in after] == [one.properties.message_id for one in before][:40]
    assert [one.event for one in after] == [one.event for one in before][:40]


async def test_one_that_lost_its_lease_does_not_move_the_position(database: Database, host: VirtualHost) -> None:
    await with_queue(host)
    async with relaying(database, host.url) as relay:
        await in_state(relay, "relaying")
        with database.connect() as other, other.transaction():
            other.execute("UPDATE leases SET holder = gen_random_uuid(), expires_at = now() + interval '5 seconds'")
        # It does not know that yet.
        fill(database, usage=5)
        await in_state(relay, "standing by")
        assert positions(database) == (0, 0)
        async with within(TAKEOVER_SECONDS):
            await eventually(lambda: drained(database))
    await expect_all(database, host)


async def test_what_somebody_has_set_back_is_published_again(database: Database, host: VirtualHost) -> None:
    await with_queue(host)
    async with relaying(database, host.url) as relay:
        await in_state(relay, "relaying")
        fill(database, events=20)
        await eventually(lambda: drained(database))
        first = relay.published
        with database.connect() as person:
            person.execute("UPDATE consumers SET event_position = 0 WHERE consumer = 'relay'")
        # It does not know that yet, and must not go on from where it was.
        fill(database, usage=1)

        async def all_again() -> bool:
            return relay.published == first + 1 + first + 1

        await eventually(all_again)
        await eventually(lambda: drained(database))


async def test_another_one_takes_over_from_a_frozen_and_from_a_killed_one(
    database: Database, host: VirtualHost
) -> None:
    await with_queue(host)
    with relay_process(database, host.url, INSTANCE) as first:
        fill(database, usage=5)
        await eventually(lambda: drained(database))
        with relay_process(database, host.url, INSTANCE) as second:
            first.send_signal(signal.SIGSTOP)
            fill(database, usage=5)
            async with within(TAKEOVER_SECONDS):
                await eventually(lambda: drained(database))
            first.send_signal(signal.SIGCONT)
            fill(database, usage=5)
            await eventually(lambda: drained(database))
            second.kill()
            second.wait()
            fill(database, usage=5)
            async with within(TAKEOVER_SECONDS):
                await eventually(lambda: drained(database))
    # Nothing was published twice but, perhaps, what the frozen one had under way.
    assert len(await asyncio.to_thread(host.take, QUEUE)) <= 25
