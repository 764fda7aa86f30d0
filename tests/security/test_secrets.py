"""After requests of every kind, good, bad and broken: no secret is in anything the service printed or counted."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.security.raw_http import RawConnection, ask
from tests.support.client import Client, Secrets, eventually
from tests.support.cluster import Cluster
from tests.support.ports import Ports
from tests.support.world import Request, World, make_world, valid_requests

E_MAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+")


@pytest.fixture(params=["json", "console"])
def printed_format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_no_secret_is_printed(cluster: Cluster, tmp_path: Path, printed_format: str) -> None:
    database = cluster.new_database()
    with Ports.make(database, tmp_path, LOG_FORMAT=printed_format, LOG_LEVEL="debug") as ports:
        world = await _made(ports)
        answers = await everything(ports.ports["all"], world)
        metrics = (await ask(ports.ports["all"], b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")).body.decode()
        keys = [path.read_text().strip() for path in (tmp_path / "data" / "keys").rglob("*") if path.is_file()]
    cluster.drop(database)
    printed = ports.printed()

    assert printed.count("http.request") > 100
    secrets = secrets_of(world)
    for text in (printed, metrics, *answers):
        assert [secret for secret in secrets if secret in text] == []
        assert E_MAIL.search(text) is None
    assert not any(len(key) > 20 and key in printed for key in keys)
    assert "PRIVATE KEY" not in printed
    if printed_format == "json":
        assert all(json.loads(line)["event"] for line in printed.splitlines())
    else:
        assert all(re.match(r"\d{4}-\d\d-\d\dT\S+ \[|    ", line) for line in printed.splitlines())


async def _made(ports: Ports) -> World:
    async with aiohttp.ClientSession() as session:
        client = Client(session, ports.base(), Secrets())
        client.api_key = (await client.new_api_key(allowed_endpoints=["/api/v1/*"]))["api_key"]
        return await make_world(client, 2)


def secrets_of(world: World) -> list[str]:
    """Return what must be seen nowhere: credentials, keys, tokens and their signatures, customers, an address."""
    own = world.client.secrets
    found = [own.admin_api_key, own.admin_secret, own.client_token, own.admin_token, world.client.api_key]
    for seat in world.seats:
        found += [seat.access, seat.refresh, seat.offline, seat.license["license_key"], seat.license["customer_id"]]
        found += [token.rpartition(".")[2] for token in (seat.access, seat.refresh, seat.offline)]
    return [*found, world.b_license["license_key"], "10.44.0.1"]


async def everything(port: int, world: World) -> list[str]:
    """Send every valid request, and spoil each so that secrets stand where logs might take them; give the refusals."""
    refused = []
    for number, request in enumerate(valid_requests(world, world.seats[0], "grep")):
        request.headers["X-Forwarded-For"] = "10.44.0.1"
        request.headers["X-Request-ID"] = world.client.api_key if number % 2 else world.seats[0].access
        await ask(port, request.raw())
        spoilt = request.raw()
        for raw in (
            spoilt.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nX Y: z\r\n", 1),
            spoilt.replace(b"Content-Type: application/json", b"Content-Type: text/plain", 1),
            spoilt.replace(b"{", b"{{", 1),
            _with_path(request, f"/{world.client.api_key}/{world.seats[0].license['license_key']}").raw(),
            _with_path(request, f"{request.path}?token={world.seats[0].access}").raw(),
        ):
            answer = await ask(port, raw)
            if answer.status >= 400:
                refused.append(answer.body.decode() + json.dumps({**answer.headers, "x-request-id": ""}))
    unfinished = await RawConnection.open(port)
    await unfinished.send(spoilt[:-5])
    await unfinished.close()
    return refused


def _with_path(request: Request, path: str) -> Request:
    return Request(request.method, path, request.headers, request.body)


INJECTED: list[Any] = ["a\r\nSet-Cookie: evil=1", "a\nlevel=error", "\x1b[31mred", "\u2028\u2029", "\x85", "a\tb"]


async def test_one_line_a_request(cluster: Cluster, tmp_path: Path, printed_format: str) -> None:
    database = cluster.new_database()
    with Ports.make(database, tmp_path, LOG_FORMAT=printed_format, LOG_LEVEL="info") as ports:
        world = await _made(ports)
        before = ports.printed().count("http.request")
        sent = 0
        for text in INJECTED:
            fields = {"metadata": {text: text}, "product": text, "edition": text}
            made = await world_client(ports, world, fields)
            assert made.status == 201
            assert "set-cookie" not in made.headers
            sent += 1
            for header in (b"X-Request-ID", b"User-Agent", b"X-Forwarded-For", b"Host"):
                value = text.encode().replace(b"\r\n", b" ").replace(b"\n", b" ")
                raw = b"GET /health/live?%b HTTP/1.1\r\n%b: %b\r\nHost: a\r\n\r\n"
                answer = await ask(ports.ports["all"], raw % (b"a%0d%0ab", header, value))
                assert re.fullmatch(r"[A-Za-z0-9._:/+=-]{1,128}", answer.headers["x-request-id"])
                sent += 1

        async def all_printed() -> bool:
            await asyncio.sleep(0)
            return ports.printed().count("http.request") >= before + sent

        await eventually(all_printed)
        lines = ports.printed().splitlines()
    cluster.drop(database)
    assert ports.printed().count("http.request") == before + sent
    assert sum("http.request" in line for line in lines) == before + sent
    assert "Set-Cookie" not in ports.printed()
    assert "\x1b" not in ports.printed()


async def world_client(ports: Ports, world: World, fields: dict[str, Any]) -> Any:
    headers = {"X-Admin-API-Key": world.client.secrets.admin_api_key}
    return await ask(
        ports.ports["all"], Request("POST", "/api/v1/admin/licenses", headers, {"customer_id": "c", **fields}).raw()
    )


async def test_a_secret_is_taken_for_no_request_id(attacker: Client, world: World) -> None:
    """Request ids are kept in events and sent in messages, where no log's redaction reaches."""
    own = attacker.secrets
    secrets = [attacker.api_key, own.admin_api_key, own.admin_secret, own.client_token, own.admin_token]
    for secret in (*secrets, world.seats[0].license["license_key"], world.seats[0].access[:128]):
        reply = await attacker.admin("GET", "/statistics", x_request_id=secret)
        assert re.fullmatch("[0-9a-f]{32}", reply.headers["X-Request-ID"])
    kept = await attacker.admin("GET", "/statistics", x_request_id="task_1/LIC-2")
    assert kept.headers["X-Request-ID"] == "task_1/LIC-2"
