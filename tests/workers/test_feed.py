"""What tells a worker to look: word comes at once, is acked when applied, and what is forged goes elsewhere."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.support.client import eventually
from tests.support.given import issued, recorded
from tests.support.rabbit import Rabbit, VirtualHost
from tests.support.stalls import stalls
from workers import feed as feeds
from workers.broker import EXCHANGE, Broker, BrokerAway
from workers.feed import ClockFeed, QueueFeed
from workers.messages import Message, of_event, of_usage

INSTANCE = "0123456789abcdef"
QUEUE, DEAD = "lizenzserver.projector", "lizenzserver.projector.dead"
NEVER = 30.0
"""A wait that lasts so long has failed."""
AT_ONCE = 10.0
"""Much less than that, and more than the machine is ever held up."""


@asynccontextmanager
async def feeding(host: VirtualHost) -> AsyncIterator[QueueFeed]:
    """Give a feed that is connected."""
    feed = QueueFeed(host.url, "projector", INSTANCE)
    try:
        await connected(feed)
        yield feed
    finally:
        await feed.close()


async def connected(feed: QueueFeed, *, wanted: bool = True) -> None:
    async def so() -> bool:
        return feed.connected is wanted

    await eventually(so)


def event(position: int) -> Message:
    return of_event(position, recorded(uuid4(), 1, issued()), INSTANCE)


def use(position: int) -> Message:
    row: dict[str, Any] = dict.fromkeys(
        ("hardware_id", "api_key_id", "reason", "app_version", "client_time", "country", "network", "key_digest")
    )
    row |= {"id": position, "occurred_at": datetime.now(UTC), "type": "device.heartbeat", "operation": "heartbeat"}
    return of_usage({**row, "license_id": UUID(int=1)}, INSTANCE)


async def publish(host: VirtualHost, *messages: Message) -> None:
    broker = await Broker.connect(host.url, "test")
    await broker.publish(messages)
    await broker.close()


async def has_size(host: VirtualHost, queue: str, size: int) -> None:
    async def so() -> bool:
        return await asyncio.to_thread(host.size, queue) == size

    await eventually(so)


async def has_word(feed: QueueFeed, count: int) -> None:
    """Wait until so many messages are there: the first one is word, others may still be on their way."""

    async def so() -> bool:
        return len(feed._pending) == count

    await eventually(so)


async def took(feed: QueueFeed) -> float:
    """Wait for word, and return for how many seconds."""
    start = time.monotonic()
    await feed.wait(NEVER)
    return time.monotonic() - start


async def test_the_clock_tells_ten_times_a_second() -> None:
    feed = ClockFeed()
    async with stalls() as held_up:
        start = time.monotonic()
        await feed.wait(2.0)
        lasted = time.monotonic() - start
    assert 0.09 < lasted < 0.5 + held_up.seconds
    await feed.settle(1, 1, caught_up=True)
    await feed.close()


async def test_word_comes_at_once_and_is_acked_when_it_is_applied(host: VirtualHost) -> None:
    async with feeding(host) as feed:
        await publish(host, event(1), event(2), use(1))
        assert await took(feed) < AT_ONCE
        await has_word(feed, 3)
        # What came last is applied, what came before is not.
        await feed.settle(0, 1, caught_up=False)
    # Closed without acking the rest, which is delivered to whoever is next.
    await has_size(host, QUEUE, 2)
    async with feeding(host) as feed:
        assert await took(feed) < AT_ONCE
        await has_word(feed, 2)
        await feed.settle(2, 1, caught_up=True)
    await has_size(host, QUEUE, 0)
    assert await asyncio.to_thread(host.size, DEAD) == 0


async def test_without_word_the_time_runs_out(host: VirtualHost) -> None:
    async with feeding(host) as feed:
        start = time.monotonic()
        await feed.wait(0.2)
        assert 0.19 < time.monotonic() - start < AT_ONCE


async def test_more_than_it_takes_at_a_time_flows_as_it_is_applied(host: VirtualHost) -> None:
    count = 3 * feeds.PREFETCH
    async with feeding(host) as feed:
        await publish(host, *(message for n in range(1, count // 2 + 1) for message in (event(n), use(n))))
        reached = 0

        async def all_acked() -> bool:
            nonlocal reached
            # As a projector does, which reads a batch from each log.
            reached = min(reached + 400, count // 2)
            await feed.wait(0.1)
            await feed.settle(reached, reached, caught_up=reached == count // 2)
            return feed.acked == count

        await eventually(all_acked, NEVER)
        assert feed.refused == 0
    await has_size(host, QUEUE, 0)


async def test_rows_that_do_not_exist_are_refused_but_only_after_a_while(
    host: VirtualHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with feeding(host) as feed:
        await publish(host, event(1), event(999), use(777))
        await feed.wait(NEVER)
        await has_word(feed, 3)
        # The look may have been before the row was there.
        await feed.settle(1, 0, caught_up=True)
        assert feed.refused == 0
        monkeypatch.setattr(feeds, "FORGED_SECONDS", 0.0)
        await feed.wait(0.05)
        await feed.settle(1, 0, caught_up=False)
        assert feed.refused == 0
        await feed.settle(1, 0, caught_up=True)
        assert feed.refused == 2
        await has_size(host, DEAD, 2)
    await has_size(host, QUEUE, 0)
    dead = await asyncio.to_thread(host.take, DEAD)
    assert [one.event["sequence"][-3:] for one in dead] == ["999", "777"]
    assert "has no position 999" in caplog.text


async def test_what_is_no_message_of_ours_is_refused_at_once(host: VirtualHost) -> None:
    forged = use(1).body.replace(INSTANCE.encode(), b"elsewhere")
    async with feeding(host) as feed:
        with host.channel() as channel:
            for body in (b'"not JSON at all"', b"{}", forged):
                channel.basic_publish(EXCHANGE, "license.issued", body)
        await has_size(host, DEAD, 3)
        assert feed.refused == 3
        await publish(host, event(1))
        assert await took(feed) < AT_ONCE
        await feed.settle(1, 0, caught_up=True)
    await has_size(host, QUEUE, 0)


async def test_a_killed_broker_is_waited_for(host: VirtualHost, rabbit: Rabbit) -> None:
    async with feeding(host) as feed:
        await publish(host, event(1), event(2))
        await feed.wait(NEVER)
        await asyncio.to_thread(rabbit.kill)
        await connected(feed, wanted=False)
        # It says nothing, and stops nobody.
        await feed.wait(0.1)
        await feed.settle(2, 0, caught_up=True)
        await asyncio.to_thread(rabbit.start)
        await connected(feed)
        await feed.wait(NEVER)
        await has_word(feed, 2)
        await feed.settle(2, 0, caught_up=True)
    await has_size(host, QUEUE, 0)


async def test_a_queue_that_was_deleted_is_made_again(host: VirtualHost) -> None:
    async with feeding(host) as feed:
        with host.channel() as channel:
            channel.queue_delete(QUEUE)
        await connected(feed, wanted=False)
        await connected(feed)
        await publish(host, event(1))
        assert await took(feed) < AT_ONCE


async def test_one_that_crashes_often_dead_letters_nothing(host: VirtualHost) -> None:
    async with feeding(host):
        await publish(host, *(event(n) for n in range(1, 11)))
    for _ in range(20):
        async with feeding(host) as feed:
            await feed.wait(NEVER)
    await has_size(host, QUEUE, 10)
    assert await asyncio.to_thread(host.size, DEAD) == 0


async def test_a_broker_that_is_not_there_says_so_in_time() -> None:
    with pytest.raises(BrokerAway):
        await Broker.connect("amqp://guest:guest@127.0.0.1:1/", "test")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with stalls() as held_up:
            start = time.monotonic()
            with pytest.raises(BrokerAway):
                await Broker.connect(f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}/", "test")
            lasted = time.monotonic() - start
        assert lasted < 5 + held_up.seconds
