"""The programs in docs/examples do what their README says."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pika
import pytest

from api.services import Services
from infra.postgres import Database
from tests.support.asyncapi import messages
from tests.support.client import Client, eventually
from tests.support.every_message import everything_happens, relaying, rows
from tests.support.lines import Printing, printing
from tests.support.rabbit import VirtualHost

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
QUEUE = "bi.licences"


@asynccontextmanager
async def consumer(folder: Path, host: VirtualHost, *patterns: str) -> AsyncIterator[Printing]:
    """Run the Python example until it reads."""
    arguments = ("--url", host.url, "--queue", QUEUE, *patterns)
    program = (sys.executable, "-W", "error", str(EXAMPLES / "consumer.py"))
    async with printing(folder, {"PATH": os.environ["PATH"]}, *program, *arguments) as running:
        assert await running.complaint() == f"reading {QUEUE}; Ctrl-C stops"
        yield running


@pytest.fixture
async def published(
    services: Services, client: Client, database: Database, virtual_host: VirtualHost
) -> AsyncIterator[Client]:
    """Give a client of a service whose rows are published."""
    async with relaying(database, virtual_host.url, services.keyring.fingerprint) as relay:

        async def has_begun() -> bool:
            return relay.published > 0  # the API key that each test begins with

        await eventually(has_begun)
        yield client


def in_table(folder: Path) -> list[dict[str, Any]]:
    """Read what the example has stored, as its README says."""
    query = "SELECT id, source, sequence, type, subject, time, data FROM events ORDER BY source, sequence"
    command = [sys.executable, "-c", _DUMP, str(folder / "events.sqlite3"), query]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
    found: list[dict[str, Any]] = json.loads(printed)
    return found


_DUMP = """
import json, sqlite3, sys
with sqlite3.connect(sys.argv[1]) as database:
    database.row_factory = sqlite3.Row
    print(json.dumps([dict(row) for row in database.execute(sys.argv[2])]))
database.close()
"""


async def test_it_prints_and_stores_all_that_is_published(
    published: Client, database: Database, virtual_host: VirtualHost, tmp_path: Path
) -> None:
    before = rows(database)
    async with consumer(tmp_path, virtual_host) as running:
        license = await everything_happens(published, database)
        lines = await running.lines(rows(database) - before)
        assert await running.end(signal.SIGTERM) == (0, "")
    seen = [line.split(" ", 3) for line in lines]
    assert {type for _, type, _, _ in seen} == set(messages())
    assert license["license_id"] in {subject for _, _, subject, _ in seen}
    stored = [[row["sequence"], row["type"], row["subject"] or "-", row["data"]] for row in in_table(tmp_path)]
    assert sorted(stored) == sorted(seen)
    assert virtual_host.size(QUEUE) == 0


async def test_patterns_choose(published: Client, virtual_host: VirtualHost, tmp_path: Path) -> None:
    async with consumer(tmp_path, virtual_host, "device.*", "license.issued") as running:
        license = await published.new_license()
        await published.activate(license, "pc")
        await published.admin("POST", f"/licenses/{license['license_id']}/devices/deactivate", {"hardware_id": "pc"})
        assert [line.split()[1] for line in await running.lines(2)] == ["license.issued", "device.deactivated"]


async def test_what_comes_again_is_not_taken_twice(
    published: Client, virtual_host: VirtualHost, tmp_path: Path
) -> None:
    virtual_host.new_queue("copy", key="license.issued")
    async with consumer(tmp_path, virtual_host, "license.issued") as running:
        await published.new_license()
        (first,) = await running.lines(1)
        (message,) = await asyncio.to_thread(virtual_host.take, "copy")
        await asyncio.to_thread(send, virtual_host, message.event)
        await asyncio.to_thread(send, virtual_host, {**message.event, "id": "another"})
        (second,) = await running.lines(1)
        assert second == first  # only by its id is it another
        assert await running.end(signal.SIGINT) == (0, "")
    async with consumer(tmp_path, virtual_host, "license.issued") as running:
        await asyncio.to_thread(send, virtual_host, message.event)
        await published.new_license()
        (third,) = await running.lines(1)
        assert third != first
    assert [row["id"] for row in in_table(tmp_path)].count(message.event["id"]) == 1


async def test_what_can_not_be_read_is_rejected_and_the_rest_goes_on(
    published: Client, virtual_host: VirtualHost, tmp_path: Path
) -> None:
    async with consumer(tmp_path, virtual_host, "license.issued") as running:
        for poison in ("no event", {"specversion": "1.0", "id": "x"}, {"specversion": "0.3"}):
            await asyncio.to_thread(send, virtual_host, poison)
            assert (await running.complaint()).startswith("rejected: ")
        await published.new_license()
        assert "license.issued" in (await running.lines(1))[0]
        assert await running.end(signal.SIGTERM) == (0, "")
    assert virtual_host.size(QUEUE) == 0


async def test_without_the_service_it_says_what_is_missing(virtual_host: VirtualHost, tmp_path: Path) -> None:
    arguments = (str(EXAMPLES / "consumer.py"), "--url", virtual_host.url)
    async with printing(tmp_path, {"PATH": os.environ["PATH"]}, sys.executable, *arguments) as running:
        code, said = await running.end()
    assert code == 1
    assert "no exchange 'licenses.events'" in said


def send(host: VirtualHost, event: Any) -> None:
    """Put a message into the example's queue, as a replay does."""
    with host.channel() as channel:
        channel.confirm_delivery()
        channel.basic_publish(
            "", QUEUE, json.dumps(event).encode(), pika.BasicProperties(delivery_mode=2), mandatory=True
        )


@pytest.mark.parametrize("name", ["consumer.mjs", "verify_receipt.mjs"])
def test_the_node_examples_can_be_read_by_node(name: str) -> None:
    subprocess.run(["node", "--check", str(EXAMPLES / name)], check=True, timeout=30)
