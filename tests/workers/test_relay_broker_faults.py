"""The relay when RabbitMQ is killed, frozen, cut off, silent or full: nothing is lost, and nothing waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from infra.postgres import Database
from tests.support.client import eventually
from tests.support.rabbit import Rabbit, VirtualHost
from tests.support.relaying import QUEUE, arrived, drained, fill, log_positions, positions, relaying, sequences
from tests.support.tcp_proxy import TcpProxy
from tests.support.within import within
from workers import broker as brokers
from workers import relay as relays
from workers.broker import Broker, BrokerAway
from workers.relay import Relay, State

RECOVERY_SECONDS = 10


async def in_state(relay: Relay, *states: State) -> None:
    async def reached() -> bool:
        return relay.state in states

    await eventually(reached)


async def with_queue(host: VirtualHost) -> None:
    await (await Broker.connect(host.url, "test")).close()
    await asyncio.to_thread(host.new_queue, QUEUE)


async def expect_all(database: Database, host: VirtualHost) -> None:
    """Each row of both logs is in the queue, in order, where each is counted when it first came."""
    events, usage = await arrived(host)
    assert (sequences(events), sequences(usage)) == log_positions(database)


async def has_published(relay: Relay, count: int) -> None:
    async def enough() -> bool:
        return relay.published >= count

    await eventually(enough, 60)


async def test_a_broker_killed_twice_loses_nothing(database: Database, host: VirtualHost, rabbit: Rabbit) -> None:
    await with_queue(host)
    fill(database, events=1000, usage=4000)
    async with relaying(database, host.url) as relay:
        for share in (1000, 3000):
            await has_published(relay, share)
            await asyncio.to_thread(rabbit.kill)
            await in_state(relay, "broker away")
            fill(database, events=100, usage=100)
            await asyncio.to_thread(rabbit.start)
        await eventually(lambda: drained(database), 60)
        assert relay.state == "relaying"
    await expect_all(database, host)


async def test_a_frozen_broker_is_left_and_found_again(database: Database, host: VirtualHost, rabbit: Rabbit) -> None:
    await with_queue(host)
    fill(database, events=200, usage=6000)
    async with relaying(database, host.url) as relay:
        await has_published(relay, 2000)
        rabbit.freeze()
        try:
            await in_state(relay, "broker away")
            saved = positions(database)
        finally:
            rabbit.thaw()

        async def goes_on() -> bool:
            return await asyncio.to_thread(positions, database) > saved

        async with within(RECOVERY_SECONDS):
            await eventually(goes_on)
        await eventually(lambda: drained(database), 60)
    await expect_all(database, host)


async def test_connections_cut_in_the_middle_of_publishing(database: Database, host: VirtualHost) -> None:
    await with_queue(host)
    fill(database, events=300, usage=3000)
    with TcpProxy(host.url) as proxy:
        proxy.cut_after(30_000)
        async with relaying(database, proxy.url) as relay:
            for size, cuts in ((150_000, 1), (333_333, 2), (1, 3)):

                async def was_cut(cuts: int = cuts) -> bool:
                    return proxy.cuts >= cuts

                await eventually(was_cut)
                proxy.cut_after(size)
            await eventually(lambda: drained(database), 30)
            assert relay.state == "relaying"
    await expect_all(database, host)


async def test_confirms_that_never_come_are_waited_for_four_seconds(database: Database, host: VirtualHost) -> None:
    await with_queue(host)
    with TcpProxy(host.url) as proxy:
        async with relaying(database, proxy.url) as relay:
            await in_state(relay, "relaying")
            proxy.swallow_answers()
            fill(database, events=5, usage=5)
            async with within(8):
                await in_state(relay, "broker away")
            assert positions(database) == (0, 0)
            proxy.let_through()
            async with within(RECOVERY_SECONDS):
                await eventually(lambda: drained(database))
    await expect_all(database, host)


async def test_a_connection_lost_for_want_of_heartbeats_ends_nothing(
    database: Database, host: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Then the library cancels what waits for it, as if the relay itself were cancelled.
    monkeypatch.setattr(brokers, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(brokers, "CONFIRM_SECONDS", 60.0)
    monkeypatch.setattr(brokers, "CALL_SECONDS", 60.0)
    await with_queue(host)
    with TcpProxy(host.url) as proxy:
        other = await Broker.connect(proxy.url, "test")
        async with relaying(database, proxy.url) as relay:
            await in_state(relay, "relaying")
            proxy.swallow_answers()
            fill(database, events=5, usage=5)
            with pytest.raises(BrokerAway):
                await other.declare_queue("projector")
            await in_state(relay, "broker away")
            proxy.let_through()
            async with within(RECOVERY_SECONDS):
                await eventually(lambda: drained(database))
        await other.close()
    await expect_all(database, host)


def trouble(database: Database) -> str:
    """Return what the relay says keeps it from its work."""
    with database.connect() as connection:
        row = connection.execute("SELECT trouble FROM leases WHERE worker = 'relay'").fetchone()
    assert row is not None
    return str(row["trouble"])


async def test_an_alarm_of_the_broker_is_told_and_waited_out(
    database: Database, host: VirtualHost, rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brokers, "CONFIRM_SECONDS", 2.0)
    monkeypatch.setattr(brokers, "BLOCKED_SECONDS", 0.1)
    monkeypatch.setattr(relays, "LONGEST_PAUSE_SECONDS", 0.8)
    await with_queue(host)
    async with relaying(database, host.url) as relay:
        await in_state(relay, "relaying")
        await asyncio.to_thread(rabbit.control, "set_vm_memory_high_watermark", "0")
        try:
            fill(database, events=50, usage=500)
            await in_state(relay, "broker blocked")
            assert "memory" in relay.reason
            assert positions(database) == (0, 0)

            async def has_tried_often() -> bool:
                return relay._pause == relays.LONGEST_PAUSE_SECONDS

            await eventually(has_tried_often)
            assert trouble(database).startswith("broker blocked"), "health tells it"
        finally:
            await asyncio.to_thread(rabbit.control, "set_vm_memory_high_watermark", "0.4")
        async with within(RECOVERY_SECONDS):
            await eventually(lambda: drained(database))
        assert relay.state == "relaying"

        async def all_is_well() -> bool:
            return trouble(database) == ""

        await eventually(all_is_well)
    taken = await asyncio.to_thread(host.take, QUEUE)
    events, usage = log_positions(database)
    assert len({one.event["id"] for one in taken}) == len(events) + len(usage)
    # It does not heap up the same messages in a connection that takes none.
    assert len(taken) <= 2 * (len(events) + len(usage))
