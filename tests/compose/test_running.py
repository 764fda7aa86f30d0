"""What compose.yaml starts works together: a licence goes through it, and it ends when it is asked to.

PostgreSQL and RabbitMQ are real, with the logins that the stack's own files make, passwords checked.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import aiohttp
import psycopg
import pytest
import pytest_asyncio
from nacl.signing import SigningKey
from psycopg.conninfo import make_conninfo
from yarl import URL

from domain.audit.checkpoint import VerifierKey, parse
from domain.identifiers import KEY_ALPHABET
from infra.embedded_postgres import EmbeddedPostgres
from infra.keyring import from_base64url
from infra.notary_key import verify
from tests.compose.files import BROKER_SETTINGS, ROLES, ROOT, services
from tests.compose.stack import PORTS, Stack
from tests.support.client import Client, Secrets, eventually
from tests.support.rabbit import Rabbit, VirtualHost

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEALTHY_SECONDS = 90
KEYS_FOR_AN_ALERT = 15
DATABASE = str(services()["postgres"]["environment"]["POSTGRES_DB"])
QUEUE = "analysts"


@pytest.fixture(scope="module")
def postgres(secrets: Path) -> Iterator[EmbeddedPostgres]:
    """Give a server as the container is after its first start: roles.sql was run by the superuser."""
    with TemporaryDirectory(prefix="lizenzserver-compose-") as folder:
        server = EmbeddedPostgres(Path(folder))
        server.start()
        try:
            with psycopg.connect(server.url(), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {DATABASE}")
                _ask_for_passwords(connection)
            with psycopg.connect(server.url(dbname=DATABASE), autocommit=True) as connection:
                connection.execute(ROLES.read_text("utf-8").replace("/run/secrets", str(secrets)))
            yield server
        finally:
            server.stop()


def _ask_for_passwords(connection: psycopg.Connection[Any]) -> None:
    """Let the superuser in as before, and others by password only, as the image does on the network."""
    path = Path(connection.execute("SHOW hba_file").fetchone()[0])  # type: ignore[index]
    path.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
    connection.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="module")
def rabbit(secrets: Path) -> Iterator[Rabbit]:
    """Give a broker with the settings and the one user of the stack."""
    broker = Rabbit()
    parts = (BROKER_SETTINGS, secrets / "rabbitmq_user")
    (Path(broker._folder.name) / "rabbitmq.conf").write_text("".join(part.read_text("utf-8") for part in parts))
    with broker:
        yield broker


@dataclass(frozen=True)
class Running:
    stack: Stack
    clients: dict[str, Client]
    rabbit: Rabbit
    amqp_url: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    postgres: EmbeddedPostgres, rabbit: Rabbit, secrets: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    """Give the stack, with every health check passed."""
    socket = psycopg.conninfo.conninfo_to_dict(postgres.url())
    hosts = {
        f"@postgres:5432/{DATABASE}": f"@/{DATABASE}?host={quote(str(socket['host']), safe='')}&port={socket['port']}",
        "rabbitmq:5672": f"127.0.0.1:{rabbit.port}",
    }
    async with Stack(tmp_path_factory.mktemp("stack"), secrets, hosts) as stack, aiohttp.ClientSession() as session:
        for name in stack.names:
            await eventually(partial(stack.is_healthy, name), HEALTHY_SECONDS)
        given = Secrets(**{name: (secrets / name).read_text("utf-8").strip() for name in Secrets.__dataclass_fields__})
        clients = {name: Client(session, stack.base(name), given) for name in PORTS}
        yield Running(stack, clients, rabbit, stack.secret("relay", "amqp_url"))


async def test_a_licence_goes_through_all_of_it(running: Running) -> None:
    clients = running.clients
    broker = VirtualHost(running.amqp_url)
    broker.new_queue(QUEUE)
    api_key = (await clients["auth"].new_api_key(allowed_endpoints=["/api/v1/*"]))["api_key"]
    for client in clients.values():
        client.api_key = api_key

    license = await clients["admin"].new_license(email="zoe@example.org")
    assert (await clients["license"].activate(license, "pc")).status == 201
    for _ in range(3):
        assert (await clients["license"].validate(license, "pc"))["valid"] is True
    tokens = await clients["auth"].tokens(license, "pc")
    beat = await clients["license"].bearer("/api/v1/license/heartbeat", tokens["access_token"], {})
    assert beat.status == 200

    await _patterns_show(clients["analytics"], license["license_id"])
    statistics = await clients["admin"].admin("GET", "/statistics")
    assert statistics.status == 200

    messages = await _messages(broker, {"license.issued", "license.activated", "device.heartbeat"})
    assert [message["type"] for message in messages].count("license.validated") == 3
    mine = [message for message in messages if message.get("subject") == license["license_id"]]
    assert {message["type"] for message in mine} >= {"license.issued", "license.activated", "license.validated"}
    assert license["license_key"] not in json.dumps(messages)
    assert "zoe@example.org" not in json.dumps(messages)


async def test_the_notary_signs_with_its_own_secret(running: Running, secrets: Path) -> None:
    admin = running.clients["admin"]
    license = await admin.new_license()
    event_id = (await admin.admin("GET", f"/licenses/{license['license_id']}/events"))["events"][0]["event_id"]

    async def receipt() -> Any:
        headers = {"x_admin_api_key": admin.secrets.admin_api_key}
        reply = await admin.request("GET", f"/api/v1/audit/receipts/{event_id}", **headers)
        return reply.body if reply.status == 200 else None

    found = await eventually(receipt, 60)
    seed = from_base64url((secrets / "audit_key").read_text("utf-8").strip())
    note = parse(found["checkpoint"])
    key = VerifierKey(note.checkpoint.origin, bytes(SigningKey(seed).verify_key))
    assert note.verified(key, verify).size > found["leaf_index"]


async def test_guessed_keys_are_found_and_shown(running: Running) -> None:
    clients = running.clients
    for number in range(KEYS_FOR_AN_ALERT):
        guess = {"license_key": f"LIC-ZZZZZZZZZZZ{KEY_ALPHABET[number]}"}
        assert (await clients["license"].validate(guess, "pc")).status == 404
    # Whatever happens next lets detection look at what was before.
    await clients["admin"].new_license()

    async def found() -> list[dict[str, Any]]:
        shown: list[dict[str, Any]] = (await clients["admin"].admin("GET", "/anomalies"))["anomalies"]
        return shown

    (anomaly,) = await eventually(found, 60)
    assert (anomaly["kind"], anomaly["address"]) == ("key_guessing", "127.0.0.1")


async def test_services_may_not_change_the_past_nor_the_schema(
    running: Running, postgres: EmbeddedPostgres, secrets: Path
) -> None:
    password = (secrets / "postgres_service_password").read_text("utf-8").strip()
    login = make_conninfo(postgres.url(dbname=DATABASE), user="lizenzserver", password=password)
    with psycopg.connect(login, autocommit=True) as connection:
        for forbidden in (
            "DELETE FROM lizenzserver.licensing_events",
            "CREATE TABLE lizenzserver.mine (id integer)",
            "CREATE TABLE public.mine (id integer)",
            "CREATE ROLE other",
            "SET ROLE lizenzserver_owner",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(forbidden)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(login, password="wrong")


async def test_analysts_may_read_and_publish_nothing(running: Running) -> None:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    commands = [shlex.split(line) for line in re.findall(r"exec rabbitmq rabbitmqctl (.+)", page)]
    for command in commands:
        running.rabbit.control(*command)
    (_, user, password), _ = commands
    url = URL(running.amqp_url).with_user(user).with_password(password)
    broker = VirtualHost(str(url))
    broker.new_queue("ana.events")
    forbidden: list[tuple[str, tuple[Any, ...]]] = [
        ("basic_consume", ("lizenzserver.projector", print)),
        ("queue_declare", ("mine",)),
        ("queue_delete", ("lizenzserver.projector",)),
        ("basic_publish", ("licenses.events", "license.issued", b"{}")),
    ]
    for method, arguments in forbidden:
        with broker.channel() as channel:
            channel.confirm_delivery()
            with pytest.raises(Exception, match="ACCESS_REFUSED"):
                getattr(channel, method)(*arguments)


async def test_it_ends_when_it_is_asked_to_and_has_said_no_secret(running: Running, secrets: Path) -> None:
    stack = running.stack
    assert await stack.stop() == dict.fromkeys(stack.names, 0)
    said = "".join(stack.printed(name) for name in stack.names)
    assert [secret for secret in _kept(secrets) if secret in said] == []
    assert [stack.written(name) for name in stack.names] == [[]] * len(stack.names)


def _kept(secrets: Path) -> list[str]:
    return [path.read_text("utf-8").strip() for path in secrets.iterdir()]


async def _patterns_show(analytics: Client, license_id: str) -> None:
    path = f"/api/v1/analytics/licenses/{license_id}/patterns?days=7"

    async def counted() -> bool:
        reply = await analytics.request("GET", path, x_api_key=analytics.api_key)
        assert reply.status == 200, reply
        return (reply["validations"], reply["heartbeats"], reply["unique_devices"]) == (3, 1, 1)

    await eventually(counted, 30)


async def _messages(broker: VirtualHost, awaited: set[str]) -> list[dict[str, Any]]:
    """Take messages from the queue until those of all these types have come."""
    found: list[dict[str, Any]] = []

    async def all_came() -> bool:
        found.extend(taken.event for taken in await asyncio.to_thread(broker.take, QUEUE))
        return awaited <= {message["type"] for message in found}

    await eventually(all_came, 30)
    return found
