"""`lizenzserver replay` as a process, into queues of a real RabbitMQ."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from api.services import Services
from infra.postgres import Database
from tests.cli.conftest import CommandLine
from tests.support.client import Client, eventually
from tests.support.command import command, environment, run
from tests.support.every_message import everything_happens, relaying
from tests.support.lines import printing
from tests.support.rabbit import Rabbit, Taken, VirtualHost
from tests.support.tcp_proxy import TcpProxy

QUEUE = "bi.licences"
BYTES_PER_SECOND = 1_000_000
"""Of a replay that is to be hit in the midst of it: it takes a quarter of a minute then, whatever holds the test up."""


class Replays:
    """Runs `lizenzserver replay` on the test's database and broker."""

    def __init__(self, database: Database, folder: Path, host: VirtualHost) -> None:
        self.folder, self.host = folder, host
        self.environ = environment(folder, DATABASE_URL=database.url, AMQP_URL=host.url)

    async def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(run, self.environ, "replay", "--to", QUEUE, *arguments)

    async def sent(self, *arguments: str) -> list[Taken]:
        """Run it and return what came into the queue."""
        done = await self(*arguments, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        found = await asyncio.to_thread(self.host.take, QUEUE)
        assert json.loads(done.stdout)["sent"] == len(found)
        return found


@pytest.fixture
def replays(database: Database, tmp_path: Path, virtual_host: VirtualHost) -> Replays:
    with virtual_host.channel() as channel:
        channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    return Replays(database, tmp_path, virtual_host)


def positions(found: list[Taken]) -> list[int]:
    return [int(one.event["sequence"]) for one in found]


def essence(one: Taken) -> tuple[Any, ...]:
    properties = one.properties
    return (properties.message_id, properties.type, properties.timestamp, properties.delivery_mode, one.event)


async def test_what_comes_is_what_was_published(
    services: Services, client: Client, database: Database, replays: Replays
) -> None:
    async with relaying(database, replays.host.url, services.keyring.fingerprint) as relay:
        while relay.state != "relaying":  # noqa: ASYNC110 - the exchange is there then
            await asyncio.sleep(0.01)
        await asyncio.to_thread(replays.host.new_queue, "all")
        await everything_happens(client, database)
        events = await replays.sent("--from", "begin")
        usage = await replays.sent("--from", "begin", "--log", "usage")

        async def all_are_published() -> bool:
            return relay.published >= len(events) + len(usage)

        await eventually(all_are_published)
        published = await asyncio.to_thread(replays.host.take, "all")
    again = {one.event["id"]: essence(one) for one in events + usage}
    assert [again[one.event["id"]] for one in published] == [essence(one) for one in published]
    assert positions(events) == sorted(positions(events))
    assert {one.key for one in events} == {QUEUE}  # nobody else gets them
    assert {one.properties.delivery_mode for one in events} == {2}


async def test_a_part_of_a_log(client: Client, replays: Replays) -> None:
    for _ in range(8):
        await client.new_license()
    assert positions(await replays.sent("--from", "3", "--until", "5")) == [3, 4, 5]
    assert positions(await replays.sent("--from", "7")) == [7, 8, 9]
    assert positions(await replays.sent("--from", "7", "--until", "5000")) == [7, 8, 9]
    done = await replays("--from", "2", "--until", "4")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "3 messages sent to bi.licences, up to position 4 of the events log\n"
    done = await replays("--from", "5000")
    assert done.stderr == "0 messages sent to bi.licences, up to position 9 of the events log\n"


async def test_only_what_is_wanted(client: Client, replays: Replays) -> None:
    license, other = await client.new_license(), await client.new_license()
    for one in (license, other):
        await client.activate(one, "pc")
    found = await replays.sent("--from", "begin", "--license", license["license_id"])
    assert [one.event["type"] for one in found] == ["license.issued", "license.activated"]
    found = await replays.sent("--from", "begin", "--type", "*.created", "--type", "license.act*")
    assert [one.event["type"] for one in found] == ["apikey.created", "license.activated", "license.activated"]
    assert await replays.sent("--from", "begin", "--type", "nothing") == []


async def test_many_rows_of_the_usage_log(client: Client, database: Database, replays: Replays) -> None:
    license = await client.new_license()
    await client.activate(license, "pc")
    await client.validate(license, "pc")
    multiply_usage(database, 12)
    found = await replays.sent("--from", "begin", "--log", "usage")
    assert positions(found) == list(range(1, 4097))


async def test_after_ctrl_c_it_says_how_to_go_on(client: Client, database: Database, replays: Replays) -> None:
    license = await client.new_license()
    await client.activate(license, "pc")
    await client.validate(license, "pc")
    multiply_usage(database, 14)
    arguments = command("replay", "--to", QUEUE, "--log", "usage", "--from", "begin")
    with TcpProxy(replays.host.url) as proxy:
        proxy.slow_down(BYTES_PER_SECOND)
        environ = {**replays.environ, "AMQP_URL": proxy.url}
        async with printing(replays.folder, environ, *arguments) as running:

            async def has_begun() -> bool:
                return await asyncio.to_thread(replays.host.size, QUEUE) > 1500

            await eventually(has_begun)
            code, said = await running.end(signal.SIGINT)
    assert code == 130, said
    count, _, rest = said.removeprefix("stopped: ").partition(" messages confirmed; go on with --from ")
    assert int(rest) == int(count) + 1
    assert 0 < int(count) < 16_384
    done = await replays("--log", "usage", "--from", rest.strip())
    assert done.returncode == 0
    found = await asyncio.to_thread(replays.host.take, QUEUE)
    assert set(positions(found)) == set(range(1, 16_385))


def multiply_usage(database: Database, doublings: int) -> None:
    """Copy the usage log's one row, until there are two to the power of so many."""
    columns = "occurred_at, type, operation, license_id, hardware_id"
    with database.connect() as connection:
        for _ in range(doublings):
            connection.execute(f"INSERT INTO usage ({columns}) SELECT {columns} FROM usage")


async def test_a_queue_that_is_not_there(client: Client, replays: Replays) -> None:
    with replays.host.channel() as channel:
        channel.queue_delete(QUEUE)
    refused = await replays("--from", "begin")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "error: there is no queue bi.licences on the broker: whoever reads it declares it\n"


async def test_a_broker_that_is_not_there(client: Client, replays: Replays) -> None:
    replays.environ["AMQP_URL"] = "amqp://someone:hunter2@127.0.0.1:1/"
    refused = await replays("--from", "begin")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: RabbitMQ: ")
    assert refused.stderr.endswith("; 0 messages confirmed; go on with --from 1\n")
    assert refused.stderr.count("\n") == 1
    assert "hunter2" not in refused.stderr


async def test_a_wrong_password(client: Client, replays: Replays) -> None:
    replays.environ["AMQP_URL"] = replays.host.url.replace("guest:guest", "guest:hunter2")
    refused = await replays("--from", "begin")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "ACCESS_REFUSED" in refused.stderr
    assert "hunter2" not in refused.stderr


async def test_a_broker_that_is_killed_meanwhile(client: Client, database: Database, tmp_path: Path) -> None:
    license = await client.new_license()
    await client.activate(license, "pc")
    await client.validate(license, "pc")
    multiply_usage(database, 14)
    with Rabbit() as rabbit:
        host = rabbit.new_host()
        with host.channel() as channel:
            channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        arguments = command("replay", "--to", QUEUE, "--log", "usage", "--from", "begin")
        with TcpProxy(host.url) as proxy:
            proxy.slow_down(BYTES_PER_SECOND)
            environ = environment(tmp_path, DATABASE_URL=database.url, AMQP_URL=proxy.url)
            async with printing(tmp_path, environ, *arguments) as running:

                async def has_begun() -> bool:
                    return await asyncio.to_thread(host.size, QUEUE) > 1500

                await eventually(has_begun)
                await asyncio.to_thread(rabbit.kill)
                code, said = await running.end()
    assert (code, said.count("\n")) == (1, 1), said
    assert said.startswith("error: RabbitMQ: ")
    assert "; 0 messages" not in said
    assert "; go on with --from " in said


def test_without_a_broker(cli: CommandLine) -> None:
    refused = cli("replay", "--to", QUEUE, "--from", "begin")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == "error: AMQP_URL is not set: there is no broker to send to\n"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--to", QUEUE),
        ("--from", "begin"),
        ("--to", "", "--from", "begin"),
        ("--to", "x" * 256, "--from", "begin"),
        ("--to", QUEUE, "--from", "end"),
        ("--to", QUEUE, "--from", "begin", "--until", "0"),
        ("--to", QUEUE, "--from", "7", "--until", "5"),
    ],
)
def test_wrong_usage(bare: CommandLine, arguments: tuple[str, ...]) -> None:
    refused = bare("replay", *arguments)
    assert (refused.code, refused.out) == (2, "")
