"""A program that knows docs/asyncapi.yaml, and nothing of ours, receives and understands what the service publishes."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pika
import pytest
import pytest_asyncio
from pika.exceptions import ChannelClosedByBroker
from pika.exchange_type import ExchangeType

from tests.support.asyncapi import document, flattened, messages, payload_of, the_channel
from tests.support.cluster import Cluster
from tests.support.every_message import KEYS_NOBODY_HAS, PERSONAL, everything_happens, relaying, rows
from tests.support.patience import running_patiently
from tests.support.rabbit import Rabbit, VirtualHost
from tests.support.service import settings_for

QUEUE = "bi.test"


@dataclass
class Reader:
    """What an analyst makes of the messages: who has how many seats, and in use by whom."""

    allowed: dict[str, int] = field(default_factory=dict)
    in_use: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def understand(self, event: dict[str, Any]) -> None:
        data, license_id = event["data"], event.get("subject", "")
        if "max_devices" in data:
            self.allowed[license_id] = data["max_devices"]
        if event["type"] == "license.activated":
            self.in_use[license_id].add(data["hardware_id"])
        if event["type"] == "device.deactivated":
            self.in_use[license_id].remove(data["hardware_id"])
        if event["type"] == "license.transferred":
            self.in_use[license_id] ^= {data["from_hardware_id"], data["to_hardware_id"]}


@dataclass(frozen=True)
class Got:
    key: str
    properties: pika.BasicProperties
    body: bytes
    event: dict[str, Any]


def bind_by_the_document(url: str) -> None:
    """Declare and bind as the document says. The exchange is declared in full: the broker compares it with what is."""
    address = the_channel()
    binding = address["bindings"]["amqp"]
    exchange = binding["exchange"]
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.exchange_declare(
            exchange["name"],
            exchange["type"],
            durable=exchange["durable"],
            auto_delete=exchange["autoDelete"],
            arguments=binding["x-arguments"],
        )
        channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        for key in address["parameters"]["routingKey"]["enum"]:
            channel.queue_bind(QUEUE, exchange["name"], key)


def receive(url: str, count: int) -> list[Got]:
    """Take so many messages, each acknowledged once it was checked against the schema of its type."""
    found: list[Got] = []
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=10)
        for method, properties, body in channel.consume(QUEUE, inactivity_timeout=10):
            assert method, f"only {len(found)} of {count} messages came"
            assert properties is not None
            assert body is not None
            assert method.routing_key is not None
            assert method.delivery_tag is not None
            event = json.loads(body)
            payload_of(properties.type).validate(event)
            found.append(Got(method.routing_key, properties, body, event))
            channel.basic_ack(method.delivery_tag)
            if len(found) == count:
                break
        channel.cancel()
    return found


@dataclass(frozen=True)
class Seen:
    """What came of everything that can happen, to this licence; and the texts that nobody may see."""

    got: list[Got]
    license: dict[str, Any]
    shown: dict[str, Any]
    secrets: tuple[str, ...]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(cluster: Cluster, rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Seen]:
    database, url = cluster.new_database(), rabbit.new_host().url
    # Before the relay comes: what it declares must be what the document says.
    bind_by_the_document(url)
    settings = settings_for(tmp_path_factory.mktemp("data"))
    async with running_patiently(settings, database) as (services, client):
        license = await everything_happens(client, database)
        shown = (await client.admin("GET", f"/licenses/{license['license_id']}")).body
        async with relaying(database, url, services.keyring.fingerprint):
            got = await asyncio.to_thread(receive, url, rows(database))
        secrets = (*PERSONAL, license["license_key"], *KEYS_NOBODY_HAS, client.api_key)
        yield Seen(got, license, shown, secrets)
    cluster.drop(database)


def test_every_type_comes(seen: Seen) -> None:
    assert {one.event["type"] for one in seen.got} == set(messages())


def test_nothing_comes_that_is_not_described(seen: Seen) -> None:
    for one in seen.got:
        properties, _ = flattened(messages()[one.event["type"]]["payload"])
        assert set(one.event) <= set(properties)
        described = set[str]().union(*(flattened(part)[0] for part in properties["data"]))
        assert set(one.event["data"]) <= described, one.key


def test_what_amqp_says_beside_the_body(seen: Seen) -> None:
    for one in seen.got:
        assert one.key == one.properties.type == one.event["type"]
        assert one.properties.message_id == one.event["id"]
        assert one.properties.content_type == document()["defaultContentType"]
        assert one.properties.delivery_mode == 2
        assert one.properties.timestamp == int(datetime.fromisoformat(one.event["time"]).timestamp())


def test_ids_are_unique_and_sequences_grow_within_a_source(seen: Seen) -> None:
    assert len({one.event["id"] for one in seen.got}) == len(seen.got)
    by_source: dict[str, list[str]] = defaultdict(list)
    for one in seen.got:
        by_source[one.event["source"]].append(one.event["sequence"])
    assert [source.rpartition("/")[2] for source in sorted(by_source)] == ["events", "usage"]
    for sequences in by_source.values():
        assert sequences == sorted(set(sequences))


def test_the_events_of_a_licence_count_without_gaps(seen: Seen) -> None:
    versions = [
        one.event["data"]["version"]
        for one in seen.got
        if one.event.get("subject") == seen.license["license_id"] and one.event["source"].endswith("/events")
    ]
    assert versions == list(range(1, len(versions) + 1))
    assert len(versions) > 8


def test_a_program_makes_of_them_what_the_service_says(seen: Seen) -> None:
    reader = Reader()
    for one in seen.got:
        reader.understand(one.event)
    id = seen.license["license_id"]
    assert (reader.allowed[id], len(reader.in_use[id])) == (seen.shown["max_devices"], seen.shown["current_devices"])
    assert reader.in_use[id] == {"linux"}


def test_an_activation_is_named_by_its_message(seen: Seen) -> None:
    taken = {one.event["id"] for one in seen.got if one.key in {"license.activated", "license.transferred"}}
    ended = {
        one.event["data"].get("activation_id", one.event["data"].get("ended_activation_id"))
        for one in seen.got
        if one.key in {"device.deactivated", "license.transferred"}
    }
    assert ended < taken


def test_what_nobody_may_see_is_in_no_message(seen: Seen) -> None:
    for one in seen.got:
        text = one.body.decode()
        assert [secret for secret in seen.secrets if secret in text or secret in json.dumps(one.event)] == []


def test_a_key_that_nobody_has_names_no_licence(seen: Seen) -> None:
    unknown = [one.event for one in seen.got if one.event["data"].get("reason") == "LICENSE_NOT_FOUND"]
    assert not any("subject" in event for event in unknown)
    assert {event["data"]["license_id"] for event in unknown} == {None}
    assert len({event["data"]["key_hash"] for event in unknown} - {None}) == len(KEYS_NOBODY_HAS)


def test_what_is_behind_an_anomaly_came_as_messages(seen: Seen) -> None:
    (found,) = [one.event for one in seen.got if one.key == "anomaly.detected"]
    assert "subject" not in found
    by_id = {one.event["id"]: one.event for one in seen.got}
    behind = [by_id[id] for id in found["data"]["evidence"]]
    assert {event["data"]["reason"] for event in behind} == {"LICENSE_NOT_FOUND"}
    assert behind[0]["time"] == found["data"]["found_at"], "the last one first"


def test_what_became_of_an_anomaly_can_be_told(seen: Seen) -> None:
    (found,) = [one.event["data"] for one in seen.got if one.key == "anomaly.detected"]
    (resolved,) = [one.event["data"] for one in seen.got if one.key == "anomaly.resolved"]
    assert resolved["anomaly_id"] == found["anomaly_id"]
    assert resolved["address_hash"] == found["address_hash"]
    assert (found["version"], resolved["version"]) == (1, 2)


def test_the_exchange_can_not_be_declared_without_its_argument(virtual_host: VirtualHost) -> None:
    bind_by_the_document(virtual_host.url)
    with virtual_host.channel() as channel, pytest.raises(ChannelClosedByBroker, match="406"):
        channel.exchange_declare("licenses.events", ExchangeType("topic"), durable=True)
    with virtual_host.channel() as channel:
        channel.exchange_declare("licenses.events", passive=True)
