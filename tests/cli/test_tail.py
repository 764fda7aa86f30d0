"""`lizenzserver tail` as a process: the messages of the queue, line by line, without a broker."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from api.services import Services
from cli import log_messages
from infra.postgres import Database
from tests.cli.conftest import CommandLine
from tests.support.asyncapi import messages, payload_of
from tests.support.client import Client
from tests.support.command import command, environment
from tests.support.every_message import everything_happens, relaying
from tests.support.lines import SECONDS, Printing, printing
from tests.support.rabbit import VirtualHost
from workers import log_reader


class Tails:
    """Starts `lizenzserver tail` on the test's database."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._folder = folder
        self._environ = environment(folder, DATABASE_URL=database.url)

    async def __call__(self, *arguments: str) -> list[dict[str, Any]]:
        """Run it to its end and return what it printed."""
        async with self.following(*arguments, "--no-follow") as running:
            code, printed = await running.end()
            assert (code, running.complaints) == (0, "")
        return [json.loads(line) for line in printed.splitlines()]

    @asynccontextmanager
    async def following(self, *arguments: str) -> AsyncIterator[Printing]:
        async with printing(self._folder, self._environ, *command("tail", *arguments)) as running:
            yield running

    def piped_into(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it in a pipe of a shell, which fails where any part does."""
        script = f'set -o pipefail; "$@" | {program}'
        return subprocess.run(
            ["bash", "-c", script, "bash", *command("tail", *arguments)],
            env=self._environ,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )


@pytest.fixture
def tails(database: Database, tmp_path: Path) -> Tails:
    return Tails(database, tmp_path)


def types(found: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in found]


def positions(found: list[dict[str, Any]]) -> list[int]:
    return [int(event["sequence"]) for event in found]


async def test_it_prints_what_the_queue_gets(
    services: Services, client: Client, database: Database, virtual_host: VirtualHost, tails: Tails
) -> None:
    async with relaying(database, virtual_host.url, services.keyring.fingerprint) as relay:
        while relay.state != "relaying":  # noqa: ASYNC110 - the exchange is there then
            await asyncio.sleep(0.01)
        await asyncio.to_thread(virtual_host.new_queue, "all")
        await everything_happens(client, database)
        printed = await tails("--from", "begin")
        while relay.published < len(printed):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        published = await asyncio.to_thread(virtual_host.take, "all")
    by_id = {event["id"]: event for event in printed}
    assert len(by_id) == len(printed)
    assert [by_id[one.event["id"]] for one in published] == [one.event for one in published]
    assert set(types(printed)) == set(messages())
    for event in printed:
        payload_of(event["type"]).validate(event)


async def test_both_logs_come_in_the_order_of_time(client: Client, tails: Tails) -> None:
    license = await client.new_license()
    for name in ("a", "b"):
        await client.activate(license, name)
        await client.validate(license, name)
    printed = await tails("--from", "begin", "--license", license["license_id"])
    assert types(printed) == ["license.issued", *["license.activated", "license.validated"] * 2]


async def test_it_follows_from_now_on_until_it_is_stopped(client: Client, tails: Tails) -> None:
    before = await client.new_license()
    for number in (signal.SIGINT, signal.SIGTERM):
        async with tails.following() as running:
            # A licence a moment, until it looks: what came before is not printed.
            coming = asyncio.create_task(running.lines(3))
            made = []
            while not coming.done():
                made.append((await client.new_license())["license_id"])
                await asyncio.sleep(0.05)
            shown = [json.loads(line)["subject"] for line in coming.result()]
            assert before["license_id"] not in shown
            first = made.index(shown[0])
            assert shown == made[first : first + 3]
            code, _ = await running.end(number)
            assert (code, running.complaints) == (0, "")


async def test_a_row_comes_at_once(client: Client, tails: Tails) -> None:
    license = await client.new_license()
    await client.activate(license, "pc")
    async with tails.following("--from", "begin", "--type", "license.issued", "--type", "*.validated") as running:
        assert types([json.loads((await running.lines(1))[0])]) == ["license.issued"]
        waits: list[float] = []
        for _ in range(3):
            await client.validate(license, "pc")
            began = time.monotonic()
            assert types([json.loads((await running.lines(1))[0])]) == ["license.validated"]
            waits.append(time.monotonic() - began)
        # Not each of them: the machine may be held up by something else.
        assert min(waits) < 2


async def test_positions_are_inclusive_and_of_one_log(client: Client, tails: Tails) -> None:
    license = await client.new_license()
    await client.activate(license, "pc")
    for _ in range(3):
        await client.validate(license, "pc")
    assert positions(await tails("--log", "events", "--from", "2")) == [2, 3]
    assert positions(await tails("--log", "usage", "--from", "2")) == [2, 3]
    assert positions(await tails("--from", "3", "--from-usage", "3")) == [3, 3]
    assert positions(await tails("--from", "end", "--from-usage", "begin", "--limit", "2")) == [1, 2]
    assert positions(await tails("--log", "usage", "--from", "begin")) == [1, 2, 3]
    assert await tails() == []


async def test_many_rows_come_without_a_gap(client: Client, tails: Tails, database: Database) -> None:
    license = await client.new_license()
    await client.activate(license, "pc")
    await client.validate(license, "pc")
    columns = "occurred_at, type, operation, license_id, hardware_id"
    with database.connect() as connection:
        for _ in range(12):
            connection.execute(f"INSERT INTO usage ({columns}) SELECT {columns} FROM usage")
    printed = await tails("--from", "begin")
    assert positions([event for event in printed if event["source"].endswith("/usage")]) == list(range(1, 4097))
    assert len(printed) == 4096 + 3


async def test_a_long_way_back_is_gone_to_its_end(
    client: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    license = await client.new_license()
    await client.activate(license, "pc")
    for _ in range(5):
        await client.validate(license, "pc")
    monkeypatch.setattr(log_messages, "BATCH", 2)
    monkeypatch.setattr(log_reader, "SETTLE_SECONDS", 0.0)  # as if the rows read so far had taken longer than that
    async with log_messages.reading(database, "test") as connection:
        source = log_messages.LogSource(connection, "usage", 0)
        found: list[int] = []
        await source.fill()
        while source.waiting:
            found += [message.position for message in source.waiting]
            source.waiting.clear()
            await source.fill()
    assert found == [1, 2, 3, 4, 5]


async def test_only_what_is_wanted_comes(client: Client, tails: Tails) -> None:
    license, other = await client.new_license(), await client.new_license()
    for one in (license, other):
        await client.activate(one, "pc")
        await client.validate(one, "pc")
    assert set(types(await tails("--from", "begin", "--type", "license.*ed"))) == {
        "license.issued",
        "license.activated",
        "license.validated",
    }
    about = await tails("--from", "begin", "--license", license["license_id"], "--type", "*.v*")
    assert [(event["type"], event["subject"]) for event in about] == [("license.validated", license["license_id"])]
    assert len(await tails("--from", "begin", "--limit", "2")) == 2


async def test_it_ends_when_nobody_reads_any_more(client: Client, tails: Tails) -> None:
    await client.new_license()
    # Nothing more happens, so nothing but the closed pipe tells it to end.
    done = await asyncio.to_thread(tails.piped_into, "head -1", "--from", "begin")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["type"] == "apikey.created"


async def test_an_event_that_can_not_be_read_is_named_and_passed_over(
    client: Client, database: Database, tails: Tails
) -> None:
    license = await client.new_license()
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO licensing_events (originator_id, originator_version, topic, state)"
            " VALUES (%s, 2, 'license.exploded', '{}')",
            (license["license_id"],),
        )
    other = await client.new_license()
    async with tails.following("--log", "events", "--from", "begin", "--no-follow") as running:
        code, printed = await running.end()
    assert code == 0
    assert [json.loads(line)["subject"] for line in printed.splitlines()][1:] == [
        license["license_id"],
        other["license_id"],
    ]
    assert running.complaints.startswith("the event at position 3 can't be read, and is left out")
    assert running.complaints.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--from", "5"),
        ("--from", "0", "--log", "events"),
        ("--from", "yesterday"),
        ("--log", "events", "--from-usage", "5"),
        ("--license", "LIC-2345"),
        ("--limit", "0"),
    ],
    ids=" ".join,
)
def test_wrong_usage(bare: CommandLine, arguments: tuple[str, ...]) -> None:
    refused = bare("tail", *arguments)
    assert (refused.code, refused.out) == (2, "")
