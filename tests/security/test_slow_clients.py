"""Clients that do nothing, or half of something, are gone after a bounded time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from api import pipeline
from api.connections import Runner
from api.edge import answer_unreadable
from api.server import all_in_one, application
from infra.postgres import Database
from tests.security.raw_http import RawConnection
from tests.support.client import Client, eventually
from tests.support.patience import running_patiently
from tests.support.service import settings_for
from tests.support.world import Request

LIMIT = 1.0
"""Seconds that the impatient service below allows for everything."""
PAUSE = 4.0
"""Seconds for which a client may leave an answer unread that means to go on: more than the machine stands still."""

BEGUN = {
    "nothing at all": b"",
    "half a request line": b"POST /api/v1/lic",
    "half of the headers": b"POST /api/v1/license/validate HTTP/1.1\r\nHost: a\r\nX-API-Key: ",
    "half a body": b"",
}


def half_a_body(api_key: str) -> bytes:
    body = {"license_key": "LIC-000000000000", "hardware_id": "pc"}
    return Request("POST", "/api/v1/license/validate", {"X-API-Key": api_key}, body).raw()[:-10]


@pytest.fixture
async def impatient(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[int, Client]]:
    """Give a service whose limits are a second each, on a port of its own."""
    async with running_patiently(settings_for(tmp_path), database) as (services, client):
        monkeypatch.setattr(pipeline, "BODY_SECONDS", LIMIT)
        app = application(all_in_one(), services, "test")
        runner = Runner(app, answer_unreadable(services), keepalive_seconds=LIMIT, write_seconds=LIMIT)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0][1], client
        await runner.cleanup()


@pytest.mark.parametrize("kind", BEGUN)
async def test_what_is_begun_and_not_finished_ends(impatient: tuple[int, Client], kind: str) -> None:
    port, client = impatient
    begun = BEGUN[kind] or (half_a_body(client.api_key) if kind == "half a body" else b"")
    connection = await RawConnection.open(port)
    await connection.send(begun)
    if kind == "half a body":
        answer = await connection.receive(LIMIT * 20)
        assert answer is not None
        assert answer.status == 400
        assert answer.problem() is None
    assert await connection.ended(LIMIT * 20)
    await connection.close()


async def test_a_trickle_does_not_keep_a_connection(impatient: tuple[int, Client]) -> None:
    port, _ = impatient
    connection = await RawConnection.open(port)
    ended = asyncio.ensure_future(connection.ended(LIMIT * 20))
    for letter in b"GET /health/live HTTP/1.1\r\nX: " + b"a" * 1000:
        if ended.done():
            break
        await connection.send(bytes([letter]))
        await asyncio.wait([ended], timeout=LIMIT / 20)
    assert await ended
    await connection.close()


async def test_an_answer_that_nobody_reads_is_given_up(impatient: tuple[int, Client]) -> None:
    """Hundreds of large answers are asked for and not read: the server stops at what the sockets hold, and hangs up."""
    port, _ = impatient
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 2000)
    async with asyncio.timeout(LIMIT * 30):
        while not writer.is_closing():
            with contextlib.suppress(ConnectionError):
                writer.write(b"\r\n")
                await writer.drain()
            await asyncio.sleep(LIMIT / 20)
    del reader


async def test_one_that_reads_again_in_time_is_not_given_up(database: Database, tmp_path: Path) -> None:
    """It stops for a moment and goes on: nothing may cut it off later for that."""
    async with running_patiently(settings_for(tmp_path), database) as (services, _):
        runner = Runner(application(all_in_one(), services, "test"), answer_unreadable(services), write_seconds=PAUSE)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        assert runner.server is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", runner.addresses[0][1])
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(ASK * MANY)

        async def is_stuck() -> bool:
            return any(connection.writing_paused for connection in runner.server.connections)  # type: ignore[union-attr]

        await eventually(is_stuck)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(LIMIT * 30):
            for _ in range(MANY):
                await an_answer(reader)
        more = asyncio.create_task(an_answer(reader))
        await asyncio.wait([more], timeout=PAUSE + LIMIT)
        assert not more.done()
        writer.write(ASK)
        assert b" 200 OK" in await more
        writer.close()
        await runner.cleanup()


MANY = 200
ASK = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"


async def an_answer(reader: asyncio.StreamReader) -> bytes:
    """Read one answer with its body; return its head."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))
    return head
