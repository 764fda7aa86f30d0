"""After ordinary use, refusals, events that can't be read, and lost connections: no secret is anywhere but in its file.

The service, its workers, PostgreSQL and RabbitMQ are processes, at their most talkative; what they have printed,
stored, set aside and published is searched.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from infra.postgres import Database
from tests.security.raw_http import ask
from tests.security.test_secrets import E_MAIL, everything, secrets_of
from tests.support.client import Client, Secrets, eventually
from tests.support.cluster import Cluster
from tests.support.command import Serving, environment
from tests.support.free_ports import free_ports
from tests.support.rabbit import Rabbit, VirtualHost
from tests.support.workers import WorkerProcess, are_at_the_end
from tests.support.world import World, make_world
from workers.broker import Broker

DATABASE_PASSWORD = "dbp-7Fq2xLr9Tz4Wm8Kc"
BROKER_PASSWORD = "brp-5Hn3vQs8Yb6Xd1Jg"
UNREADABLE = "who.cannot.be.read@example.com"
FORGED = "who.was.forged@example.com"
QUEUE = "analysts"
PROCESSES = ("the services", "relay", "projector", "anomaly", "notary")
PLACES = [*(f"the log of {name}" for name in PROCESSES), "the printed start", "PostgreSQL's log", "RabbitMQ's log",
          "dead letters", "messages", "refusals", "metrics", "tables"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """`secrets` are all that there were; `places` is the text found in each place."""

    secrets: list[str]
    places: dict[str, str]


@pytest.fixture(scope="module")
def left_behind(cluster: Cluster, rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeftBehind]:
    database, host, folder = cluster.new_database(), rabbit.new_host(), tmp_path_factory.mktemp("secrets")
    yield Scene(cluster, rabbit, database, host, folder).played()
    cluster.drop(database)


@dataclass(frozen=True, slots=True)
class Scene:
    """All processes over one database and one virtual host."""

    cluster: Cluster
    rabbit: Rabbit
    database: Database
    host: VirtualHost
    folder: Path

    def played(self) -> LeftBehind:
        """Start everything, have it used and troubled, stop it, and gather what it leaves behind."""
        url = f"{self.database.url}&password={DATABASE_PASSWORD}"
        own, secrets = Database(url, url), Secrets()
        (port,) = map(str, free_ports(1))
        settings = {
            "DATABASE_URL": url, "AMQP_URL": self._login(), "LOG_LEVEL": "debug", "LOG_FORMAT": "json",
            "ADMIN_API_KEY": secrets.admin_api_key, "ADMIN_SECRET": secrets.admin_secret, "SINGLE_PORT": port,
            "CLIENT_TOKEN": secrets.client_token, "ADMIN_TOKEN": secrets.admin_token, "TRUSTED_PROXIES": "127.0.0.1",
        }  # fmt: skip
        data_dir = self.folder / "data"
        data_dir.mkdir()
        asyncio.run(self._make_queue())
        places: dict[str, str] = {}
        with ExitStack() as running:
            serving = running.enter_context(Serving(environment(data_dir, **settings), "--single-port", "--no-workers"))
            self._break_a_view()
            workers = {
                name: running.enter_context(WorkerProcess(own, name, data_dir, **settings)) for name in PROCESSES[1:]
            }
            world, places["refusals"] = asyncio.run(self._used(int(port)))
            places["metrics"] = serving_metrics(int(port))
            for worker in workers.values():
                assert worker.stop() == 0
            assert serving.end(signal.SIGTERM) == 0
            places["the printed start"] = serving.printed
            places["the log of the services"] = serving._log.read_text("utf-8")
            places |= {f"the log of {name}": worker.log() for name, worker in workers.items()}
        return LeftBehind([*secrets_of(world), *self._private_keys(data_dir)], places | self._stored())

    def _login(self) -> str:
        """Make a login of the broker with a password that is found nowhere else, and return its address."""
        name = self.host.url.rpartition("/")[2]
        self.rabbit.control("add_user", f"user-{name}", BROKER_PASSWORD)
        self.rabbit.control("set_permissions", "-p", name, f"user-{name}", ".*", ".*", ".*")
        return f"amqp://user-{name}:{BROKER_PASSWORD}@127.0.0.1:{self.rabbit.port}/{name}"

    async def _make_queue(self) -> None:
        """Make an analyst's queue before anything is published."""
        await (await Broker.connect(self.host.url, "a test")).close()
        await asyncio.to_thread(self.host.new_queue, QUEUE)

    def _break_a_view(self) -> None:
        """Have PostgreSQL refuse each row of a view, and say what was in it."""
        self._as_superuser("ALTER TABLE lizenzserver.seat_changes ADD CONSTRAINT broken CHECK (position < 0) NOT VALID")

    def _as_superuser(self, statement: str) -> None:
        with psycopg.connect(self.database.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    async def _used(self, port: int) -> tuple[World, str]:
        async with aiohttp.ClientSession() as session:
            client = Client(session, f"http://127.0.0.1:{port}", Secrets(), "10.44.0.1")
            client.api_key = (await client.new_api_key(allowed_endpoints=["/api/v1/*"]))["api_key"]
            world = await make_world(client, 2)
            refused = await everything(port, world)
            await eventually(partial(self._reached, "relay"), 30)
            await self._forge()
            await self._troubled(client, world)
            return world, "\n".join(refused)

    async def _reached(self, consumer: str) -> bool:
        return await asyncio.to_thread(are_at_the_end, self.database, consumer)

    async def _forge(self) -> None:
        """Publish a message that is none of ours to a worker's own queue, and wait until it has been refused."""

        def publish() -> None:
            with self.host.channel() as channel:
                channel.basic_publish(
                    "", "lizenzserver.projector", json.dumps({"id": FORGED, "email": FORGED}).encode()
                )

        async def refused() -> bool:
            return await asyncio.to_thread(self.host.size, "lizenzserver.projector.dead") > 0

        await asyncio.to_thread(publish)
        await eventually(refused, 60)

    async def _troubled(self, client: Client, world: World) -> None:
        """Let an event be unreadable, and every connection to the database and to the broker be lost."""
        license = world.seats[1].license
        self._as_superuser(
            "INSERT INTO lizenzserver.licensing_events (originator_id, originator_version, topic, state) VALUES ("
            f"'{license['license_id']}', 99, 'license.updated', '{{\"customer_id\": \"{UNREADABLE}\"}}')"
        )
        for _ in range(2):
            await client.admin("GET", f"/licenses/{license['license_id']}/events")
            await client.activate(license, "another")
            self._as_superuser(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            await asyncio.to_thread(self.rabbit.control, "close_all_connections", "a test")
        await eventually(partial(self._set_aside, "anomaly"), 30)
        await eventually(partial(self._set_aside, "seats"), 30)

        async def ready() -> bool:
            return (await client.request("GET", "/health/ready")).status == 200

        await eventually(ready, 30)

    async def _set_aside(self, consumer: str) -> bool:
        with self.database.connect() as connection:
            found = connection.execute("SELECT 1 FROM dead_letters WHERE consumer = %s", (consumer,)).fetchall()
        return bool(found)

    def _private_keys(self, data_dir: Path) -> list[str]:
        texts = [path.read_text() for path in (data_dir / "keys").rglob("*") if path.is_file()]
        signing = [json.loads(text)["private_key"] for text in texts if text.lstrip().startswith("{")]
        return [*(text.strip() for text in texts if not text.lstrip().startswith("{")), *signing]

    def _stored(self) -> dict[str, str]:
        logs = (Path(self.cluster.server._cluster) / "log").glob("*.log")
        broker = (self.rabbit._path / "log").rglob("*")
        messages = [(one.key, repr(one.properties), one.event) for one in self.host.take(QUEUE)]
        assert messages
        return {
            "PostgreSQL's log": _texts(logs),
            "RabbitMQ's log": self.rabbit.output() + _texts(path for path in broker if path.is_file()),
            "dead letters": self._rows("dead_letters"),
            "messages": "\n".join(map(repr, messages)),
            "tables": "\n".join(self._rows(name) for name in self._tables()),
        }

    def _tables(self) -> list[str]:
        with psycopg.connect(self.database.url) as connection:
            rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'lizenzserver'").fetchall()
        return [name for (name,) in rows]

    def _rows(self, table: str) -> str:
        """Return all rows of a table as text; what was put there to be unreadable is left out."""
        query = SQL("SELECT t::text FROM lizenzserver.{} t").format(Identifier(table))
        with psycopg.connect(self.database.url) as connection:
            rows = [text for (text,) in connection.execute(query)]
        return "\n".join(
            text for text in rows if table != "licensing_events" or f"{UNREADABLE.encode().hex()}" not in text
        )


def serving_metrics(port: int) -> str:
    return asyncio.run(ask(port, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")).body.decode()


def _texts(paths: Iterator[Path]) -> str:
    return "\n".join(path.read_text("utf-8", errors="replace") for path in paths)


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_is_there(left_behind: LeftBehind, place: str) -> None:
    text = left_behind.places[place]
    secrets = [*left_behind.secrets, DATABASE_PASSWORD, BROKER_PASSWORD, UNREADABLE, FORGED]

    assert text
    assert all(len(secret) > 7 for secret in secrets)
    assert [secret for secret in secrets if secret in text or secret.encode().hex() in text] == []
    assert E_MAIL.search(text.replace("rabbit@", "").replace("@localhost", "")) is None
    assert "PRIVATE KEY" not in text


def test_there_was_something_to_say(left_behind: LeftBehind) -> None:
    """Each place was written to about what held secrets."""
    places = left_behind.places

    assert places["the log of the services"].count("http.request") > 100
    assert "unexpected" in places["the log of the services"] or "can't be read" in places["the log of the services"]
    assert "aside" in places["the log of projector"]
    assert "refused a message" in places["the log of projector"]
    assert "aside" in places["the log of anomaly"]
    assert "relay" in places["the log of relay"]
    assert 'violates check constraint "broken"' in places["PostgreSQL's log"]
    assert "user-" in places["RabbitMQ's log"]
    assert "broken" in places["dead letters"]
    assert "license.issued" in places["messages"]
    assert all(table in places["metrics"] for table in ("lizenzserver_request_seconds", "lizenzserver_dead_letters"))
