"""The embedded PostgreSQL for as long as anybody on its data folder needs it: the last to leave stops it.

Each user holds a shared lock that the kernel gives back however the user ends. So a command that started the server
leaves it to a `serve` that came meanwhile, and one that `kill -9` has orphaned is used, and then stopped, by the next.
"""

from __future__ import annotations

import fcntl
import logging
import os
from threading import Event, Thread
from types import TracebackType
from typing import Self

import psycopg
from psycopg import Connection
from psycopg.sql import SQL, Identifier

from infra.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from infra.postgres import SERVICE_ROLE, Database
from infra.settings import Settings

log = logging.getLogger(__name__)

WATCH_SECONDS = 1.0

OWNER = "lizenzserver_owner"
"""Owns the schema: migrations are its work."""

LOGIN = "lizenzserver"
"""The services' login. It may do what the service's role may, and nothing else."""

_ROLES_LOCK = 0x6C697A_726F6C
"""Key of the advisory lock under which the roles are made ('liz', 'rol')."""


class EmbeddedServer:
    """Use of the embedded server, from entering to leaving. Nobody connects to it as its superuser but this class.

    With `keep_up`, a server that ends meanwhile is started again: nobody else would, and it recovers by itself.
    """

    def __init__(self, settings: Settings, *, keep_up: bool = False) -> None:
        self._watch = Thread(target=self._keep_up, name="embedded server", daemon=True) if keep_up else None
        self._leaving = Event()
        self._data_dir = settings.data_dir
        self._server = EmbeddedPostgres(settings.data_dir)
        self._descriptor: int | None = None

    @property
    def database(self) -> Database:
        """Where the database is, with the rights that each side needs."""
        return Database(self._server.url(LOGIN), self._server.url(OWNER))

    def __enter__(self) -> Self:
        self._data_dir.mkdir(parents=True, exist_ok=True)
        path = self._data_dir / "postgres.users"
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        try:
            self._server.start()
            self._ensure_roles()
        except BaseException:
            self._leave()
            raise
        if self._watch is not None:
            self._watch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._leave()

    def _keep_up(self) -> None:
        while not self._leaving.wait(WATCH_SECONDS):
            if not self._server.running():
                log.error("the embedded database has ended, and is started again")
                try:
                    self._server.start()
                except (EmbeddedPostgresError, OSError):
                    log.exception("the embedded database does not start")

    def _leave(self) -> None:
        self._leaving.set()
        if self._watch is not None and self._watch.is_alive():
            self._watch.join()
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # Somebody still uses the server, and will stop it.
        else:
            self._server.stop()
        finally:
            os.close(descriptor)

    def _ensure_roles(self) -> None:
        with psycopg.connect(self._server.url(), autocommit=True) as connection:
            if not _missing(connection):
                return
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_ROLES_LOCK,))
                for role in _missing(connection):
                    kind = SQL("NOLOGIN") if role == SERVICE_ROLE else SQL("LOGIN")
                    connection.execute(SQL("CREATE ROLE {} {}").format(Identifier(role), kind))
                service, owner, login = Identifier(SERVICE_ROLE), Identifier(OWNER), Identifier(LOGIN)
                connection.execute(SQL("GRANT {} TO {} WITH ADMIN OPTION").format(service, owner))
                connection.execute(SQL("GRANT {} TO {}").format(service, login))
                connection.execute(SQL("GRANT CREATE ON DATABASE postgres TO {}").format(owner))


def _missing(connection: Connection[tuple[str]]) -> list[str]:
    """Return which of the roles there are not yet."""
    rows = connection.execute("SELECT rolname FROM pg_roles").fetchall()
    return sorted({SERVICE_ROLE, OWNER, LOGIN} - {name for (name,) in rows})
