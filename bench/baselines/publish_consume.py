"""Publish and consume with aio-pika alone, as its documentation shows it.

`python -m bench.baselines.publish_consume AMQP_URL MESSAGES BYTES`. Persistent messages with publisher confirms through
the library's exchange, as many in flight as our relay has, into two quorum queues; then one consumer with
acknowledgements. Prints messages a second, published and consumed, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from itertools import count
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

IN_FLIGHT = 500
PREFETCH = 500
EXCHANGE = "bench"
TYPE = "license.validated"


async def measure(url: str, messages: int, size: int) -> dict[str, float]:
    """Return messages a second, `published` and `consumed`."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel(publisher_confirms=True)
        queues = [await _queue(channel, name) for name in ("one", "two")]
        began = time.monotonic()
        await _publish(channel, messages, os.urandom(size))
        published = messages / (time.monotonic() - began)
        began = time.monotonic()
        await _consume(channel, queues[0], messages)
        return {"published": published, "consumed": messages / (time.monotonic() - began)}


async def _queue(channel: AbstractChannel, name: str) -> AbstractQueue:
    exchange = await channel.declare_exchange(EXCHANGE, "topic", durable=True)
    queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
    await queue.bind(exchange, "#")
    return queue


async def _publish(channel: AbstractChannel, messages: int, body: bytes) -> None:
    exchange = await channel.get_exchange(EXCHANGE)
    for first in range(0, messages, IN_FLIGHT):
        await asyncio.gather(
            *(exchange.publish(_message(body), TYPE) for _ in range(first, min(messages, first + IN_FLIGHT)))
        )


def _message(body: bytes) -> aio_pika.Message:
    return aio_pika.Message(
        body,
        content_type="application/cloudevents+json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=str(uuid4()),
        type=TYPE,
    )


async def _consume(channel: AbstractChannel, queue: AbstractQueue, messages: int) -> None:
    all_came = asyncio.Event()
    numbers = count(1)

    async def take(message: AbstractIncomingMessage) -> None:
        await message.ack()
        if next(numbers) == messages:
            all_came.set()

    await channel.set_qos(prefetch_count=PREFETCH)
    await queue.consume(take)
    await all_came.wait()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
