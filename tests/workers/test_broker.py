"""A connection to RabbitMQ that goes silent is given up by both sides within seconds, whoever waits on it."""

from __future__ import annotations

import asyncio
import json

from tests.support.rabbit import Rabbit
from workers.broker import Broker

HEARTBEAT_SECONDS = 5


async def test_heartbeats_are_agreed_on_with_the_server(rabbit: Rabbit) -> None:
    host = rabbit.new_host()
    broker = await Broker.connect(host.url, "heartbeats")
    try:
        listed = await asyncio.to_thread(
            rabbit.control, "list_connections", "client_properties", "timeout", "--formatter", "json"
        )
    finally:
        await broker.close()
    (timeout,) = [one["timeout"] for one in json.loads(listed) if "heartbeats" in str(one["client_properties"])]
    assert timeout == HEARTBEAT_SECONDS
