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
LONGER = 2.0
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
def servers(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Give two processes over one database: what the machine does besides holds up both."""
    database, data_dir = cluster.new_database(), tmp_path_factory.mktemp("data")
    with (
        Nursery(tmp_path_factory.mktemp("logs")) as nursery,
        nursery.serve(database, data_dir) as one,
        nursery.serve(database, data_dir) as other,
    ):
        yield one, other
        assert (one.stop(), other.stop()) == (0, 0)
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


async def p99s(servers: tuple[Server, Server], request: bytes) -> list[float]:
    """Return the 99th percentiles of how long their answers take, asked in turn on a connection to each."""
    connections = [await RawConnection.open(server.port) for server in servers]
    seconds: list[list[float]] = [[] for _ in servers]
    for _ in range(REQUESTS):
        for connection, noted in zip(connections, seconds, strict=True):
            started = time.perf_counter()
            await connection.send(request)
            answer = await connection.receive()
            noted.append(time.perf_counter() - started)
            assert answer is not None
            assert answer.status == 200
    for connection in connections:
        await connection.close()
    return [statistics.quantiles(noted, n=100)[98] for noted in seconds]


async def answers_as_fast(slow: Slow, servers: tuple[Server, Server], request: bytes) -> None:
    """Ask the one that they disturb and another in rounds, as long as all of the slow are there.

    The best round of each counts: what else the machine does is in the others.
    """
    rounds: list[list[float]] = []
    while True:
        rounds.append(await p99s(servers, request))
        assert await slow.are_all_there(), rounds
        disturbed, other = map(min, zip(*rounds, strict=True))
        if len(rounds) >= ROUNDS and disturbed < LONGER * other:
            return


async def a_validation(client: Client) -> Request:
    """Return a request that succeeds."""
    client.api_key = (await client.new_api_key())["api_key"]
    license = await client.new_license()
    assert (await client.activate(license, "pc")).status == 201
    body: dict[str, Any] = {"license_key": license["license_key"], "hardware_id": "pc"}
    return Request("POST", "/api/v1/license/validate", {"X-API-Key": client.api_key}, body)


async def test_a_thousand_slow_clients_disturb_nobody_and_are_gone_in_a_minute(servers: tuple[Server, Server]) -> None:
    server = servers[0]
    async with server.client() as client:
        raw = (await a_validation(client)).raw()
        await p99s(servers, raw)
        slow = Slow(server, raw[:-10])
        try:
            await slow.open()
            await eventually(slow.are_all_there, END_SECONDS)
            await answers_as_fast(slow, servers, raw)

            await eventually(slow.are_gone, END_SECONDS)
        finally:
            await slow.close()
        assert (await client.request("GET", "/health/ready")).status == 200
    assert "Traceback" not in server.log()
