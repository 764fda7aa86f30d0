"""Connections to PostgreSQL: the service's, with no more rights than it needs, and the owner's, for migrations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row

from infra.pulse import Pulse, beating
from infra.watched_connections import (
    ListeningConnection,
    RequestConnection,
    RequestPool,
    WatchedAsyncConnection,
    WatchedConnection,
)

SCHEMA = "lizenzserver"
SERVICE_ROLE = "lizenzserver_service"

CONNECT_TIMEOUT_SECONDS = 2
POOL_WAIT_SECONDS = 0.75
"""How long a request waits for a connection before it is told 503: minutes help nobody."""

_WORKER_OPTIONS = {"lock_timeout": "5s", "idle_in_transaction_session_timeout": "8s"}


@dataclass(frozen=True, slots=True)
class Database:
    """Where the database is. `owner_url` may change the schema; `url` is what the services use.

    Service connections take the role `lizenzserver_service`, whatever their login may do besides. With a `pulse`, see
    `watched`, they give up where the server will never answer; without one, they wait as long as it takes.
    """

    url: str
    owner_url: str
    pulse: Pulse | None = None

    def conninfo(self, application_name: str = "lizenzserver", **options: str) -> str:
        """Return the libpq connection string of the service's role."""
        settings = {
            "role": SERVICE_ROLE,
            "search_path": SCHEMA,
            "TimeZone": "UTC",
            "statement_timeout": "30s",
            **options,
        }
        return _conninfo(self.url, application_name, settings)

    def connect(self, application_name: str = "lizenzserver", **options: str) -> Connection[DictRow]:
        """Open one synchronous connection of the service's role, in autocommit mode."""
        return self._connected(self.conninfo(application_name, **options))

    def connect_worker(self, worker: str) -> Connection[DictRow]:
        """Open a worker's connection: it waits for locks for 5 s, and one that is frozen in a transaction is ended."""
        return self.connect(f"lizenzserver-{worker}", **_WORKER_OPTIONS)

    async def connect_async_worker(self, worker: str) -> AsyncConnection[DictRow]:
        """Open the same for asynchronous use."""
        return await self._connected_async(self.conninfo(f"lizenzserver-{worker}", **_WORKER_OPTIONS))

    async def connect_async(self) -> AsyncConnection[DictRow]:
        """Open one asynchronous connection of the service's role that waits three seconds for a lock at most."""
        return await self._connected_async(self.conninfo("lizenzserver-usage", lock_timeout="3s"))

    def connect_owner(self) -> Connection[DictRow]:
        """Open one synchronous connection of the owner, in autocommit mode, with no role set."""
        conninfo = _conninfo(self.owner_url, "lizenzserver-owner", {"TimeZone": "UTC"})
        return psycopg.connect(conninfo, autocommit=True, row_factory=dict_row)

    def connect_login(self) -> Connection[DictRow]:
        """Open one connection of the service's login with no role set: it may end the login's own sessions."""
        return self._connected(_conninfo(self.url, "lizenzserver-login", {"TimeZone": "UTC"}))

    def pool(self, max_size: int = 8) -> RequestPool:
        """Make the pool that queries use, closed at first."""
        pulse = self.pulse
        conninfo = self.conninfo()

        async def when_back() -> str:
            # Attempts that can only fail would be made further and further apart.
            if pulse is not None:
                await pulse.back()
            return conninfo

        async def configure(connection: AsyncConnection[DictRow]) -> None:
            assert isinstance(connection, RequestConnection)
            connection.pulse = pulse

        pool = RequestPool(
            when_back,
            connection_class=RequestConnection,
            kwargs={"autocommit": True, "row_factory": dict_row},
            configure=configure,
            min_size=2,
            max_size=max_size,
            open=False,
            timeout=POOL_WAIT_SECONDS,
            max_waiting=max_size * 64,
            reconnect_timeout=2.0,
            check=None,
            name="queries",
        )
        if pulse is not None:
            pool.watch(pulse)
        return pool

    def _connected(self, conninfo: str) -> Connection[DictRow]:
        connection = WatchedConnection.connect(conninfo, autocommit=True, row_factory=dict_row)
        connection.pulse = self.pulse
        return connection

    async def _connected_async(self, conninfo: str) -> AsyncConnection[DictRow]:
        connection = await WatchedAsyncConnection.connect(conninfo, autocommit=True, row_factory=dict_row)
        connection.pulse = self.pulse
        return connection


@asynccontextmanager
async def watched(database: Database) -> AsyncIterator[Database]:
    """Feel a database's pulse meanwhile; give the same one with it. One that is watched already is given as it is."""
    if database.pulse is not None:
        yield database
        return
    conninfo = _conninfo(database.url, "lizenzserver-pulse", {"TimeZone": "UTC"})

    async def connect() -> AsyncConnection[DictRow]:
        return await ListeningConnection.connect(conninfo, autocommit=True, row_factory=dict_row)

    async with beating(Pulse(connect)) as pulse:
        yield replace(database, pulse=pulse)


def _conninfo(url: str, application_name: str, settings: Mapping[str, str]) -> str:
    given = conninfo_to_dict(url)
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    defaults: dict[str, Any] = {
        "application_name": application_name,
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }
    if given.get("options"):
        options = f"{given.pop('options')} {options}"
    return make_conninfo(**{**defaults, **given, "options": options})
