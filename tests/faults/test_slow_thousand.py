"""A thousand slow clients of a process: others wait no longer for their answers, and the slow are gone in a minute."""

from __future__ import annotations

import asyncio
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.security.raw_http import RawConnection
from tests.support.client import Client, eventually
from tests.support.cluster import Cluster
from tests.support.nursery import Nursery, Server
from tests.support.world import Request

PER_KIND = 200
READERS = 20
TRICKLE_SECONDS = 2.0
END_SECONDS = 50.0
"""Thirty for headers, bodies and idle connections, and time for a thousand ends on a busy machine."""

ROUNDS = 3
REQUESTS = 500
SPARE = 10
"""Connections to the database may have become more; slow clients of each kind are more than that."""

BEGUN = {
    "nothing at all": b"",
    "half a request line": b"POST /api/v1/lic",
    "half of the headers": b"POST /api/v1/license/validate HTTP/1.1\r\nHost: a\r\nX-API-Key: ",
    "half a body": b"",
}
TRICKLE = b"GET /health/live HTTP/1.1\r\nX: " + b"a" * 1000


@pytest.fixture(scope="module")
def server(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    database = cluster.new_database()
    with (
        Nursery(tmp_path_factory.mktemp("logs")) as nursery,
        nursery.serve(database, tmp_path_factory.mktemp("data")) as running,
    ):
        yield running
        assert running.stop() == 0
    cluster.drop(database)


class Slow:
    """The thousand, from when they were opened on."""

    def __init__(self, server: Server, half_a_body: bytes) -> None:
        self._server = server
        self._half_a_body = half_a_body
        self._connections: list[RawConnection] = []
        self._tricklers: list[RawConnection] = []
        self._readers: list[socket.socket] = []
        self._trickling: asyncio.Task[None] | None = None
        self._before = connections_of(server)

    async def open(self) -> None:
        """Connect all, and send what each begins with."""
        for begun in BEGUN.values():
            for _ in range(PER_KIND):
                connection = await RawConnection.open(self._server.port)
                self._connections.append(connection)
                await connection.send(begun)
        for connection in self._connections[-PER_KIND:]:
            await connection.send(self._half_a_body)
        self._tricklers = [await RawConnection.open(self._server.port) for _ in range(PER_KIND - READERS)]
        self._readers = [deaf(self._server.port) for _ in range(READERS)]
        self._trickling = asyncio.create_task(self._trickle())

    async def _trickle(self) -> None:
        for letter in TRICKLE:
            for connection in self._tricklers:
                with suppress(ConnectionError):
                    await connection.send(bytes([letter]))
            await asyncio.sleep(TRICKLE_SECONDS)

    async def are_all_there(self) -> bool:
        """Tell whether the server has taken all of them."""
        return connections_of(self._server) >= self._before + 1000 - SPARE

    async def are_gone(self) -> bool:
        """Tell whether the server holds no more connections than before."""
        return connections_of(self._server) <= self._before + SPARE

    async def close(self) -> None:
        """Hang up where the server has not."""
        if self._trickling is not None:
            self._trickling.cancel()
        await asyncio.gather(*(one.close() for one in (*self._connections, *self._tricklers)))
        for reader in self._readers:
            reader.close()


def deaf(port: int) -> socket.socket:
    """Return a connection that has asked for a hundred large answers, and reads none."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect(("127.0.0.1", port))
    made.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
    return made


def connections_of(server: Server) -> int:
    """Return how many sockets a process has open."""
    links = Path(f"/proc/{server.pid}/fd").iterdir()
    return sum(str(target).startswith("socket:") for target in map(target_of, links))


def target_of(link: Path) -> str:
    """Return what a file descriptor is; nothing where it was closed meanwhile."""
    with suppress(FileNotFoundError):
        return str(link.readlink())
    return ""


async def latencies(port: int, request: bytes) -> list[float]:
    """Return how long answers take, one request after the other on one connection."""
    connection = await RawConnection.open(port)
    seconds = []
    for _ in range(REQUESTS):
        started = time.perf_counter()
        await connection.send(request)
        answer = await connection.receive()
        seconds.append(time.perf_counter() - started)
        assert answer is not None
        assert answer.status == 200
    await connection.close()
    return seconds


async def best_p99(port: int, request: bytes) -> float:
    """Return the 99th percentile of the best of several rounds: what else the machine does is in the others."""
    return min([statistics.quantiles(await latencies(port, request), n=100)[98] for _ in range(ROUNDS)])


async def a_validation(client: Client) -> Request:
    """Return a request that succeeds."""
    client.api_key = (await client.new_api_key())["api_key"]
    license = await client.new_license()
    assert (await client.activate(license, "pc")).status == 201
    body: dict[str, Any] = {"license_key": license["license_key"], "hardware_id": "pc"}
    return Request("POST", "/api/v1/license/validate", {"X-API-Key": client.api_key}, body)


async def test_a_thousand_slow_clients_disturb_nobody_and_are_gone_in_a_minute(server: Server) -> None:
    async with server.client() as client:
        raw = (await a_validation(client)).raw()
        await latencies(server.port, raw)
        before = await best_p99(server.port, raw)
        slow = Slow(server, raw[:-10])
        try:
            await slow.open()
            await eventually(slow.are_all_there, END_SECONDS)
            assert await best_p99(server.port, raw) < 2 * before

            await eventually(slow.are_gone, END_SECONDS)
        finally:
            await slow.close()
        assert (await client.request("GET", "/health/ready")).status == 200
    assert "Traceback" not in server.log()
