"""A PostgreSQL for the whole test run, and a fresh migrated database for each test that asks."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import LiteralString, Self

import psycopg
from psycopg.sql import SQL, Identifier

from infra.embedded_postgres import EmbeddedPostgres
from infra.migrations import migrate
from infra.postgres import Database

TEMPLATE = "lizenzserver_template"


class Cluster:
    """An embedded server in a temporary folder, within `parent`. Databases are clones of one that was migrated once.

    Without `fsync` it does not wait for the disk. No test can cut the power, so that shows in nothing but time.
    """

    def __init__(self, parent: Path | None = None, *, fsync: bool = True) -> None:
        self._folder = TemporaryDirectory(prefix="lizenzserver-test-", dir=parent)
        self.server = EmbeddedPostgres(Path(self._folder.name))
        self._numbers = count(1)
        self._fsync = fsync

    def __enter__(self) -> Self:
        self.server.start()
        if not self._fsync:
            self._execute(SQL("ALTER SYSTEM SET fsync = off"))
            self._execute(SQL("SELECT pg_reload_conf()"))
        self._execute(SQL("CREATE DATABASE {}").format(Identifier(TEMPLATE)))
        migrate(self._database(TEMPLATE))
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        self._folder.cleanup()

    def new_database(self, *, migrated: bool = True) -> Database:
        """Make a database of its own for one test."""
        name = f"test_{next(self._numbers)}"
        template = TEMPLATE if migrated else "template1"
        self._clone(name, template)
        return self._database(name)

    def copy(self, database: Database) -> Database:
        """Make a database with all that another one holds, to which nobody may be connected."""
        name = f"test_{next(self._numbers)}"
        self._clone(name, _name(database))
        return self._database(name)

    def drop(self, database: Database) -> None:
        """Drop a database, whoever is connected."""
        self._execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(_name(database))))

    def _clone(self, name: str, template: str) -> None:
        statement = "CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY"
        self._execute(SQL(statement).format(Identifier(name), Identifier(template)))

    @property
    def folder(self) -> Path:
        """The server's data folder, with its write-ahead log and its own log."""
        return Path(self._folder.name)

    def execute(self, statement: LiteralString, database: Database | None = None) -> None:
        """Execute a statement as the server's administrator, outside of a transaction."""
        url = database.url if database is not None else self.server.url()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement)

    def _database(self, name: str) -> Database:
        url = self.server.url(dbname=name)
        return Database(url, url)

    def _execute(self, statement: SQL | psycopg.sql.Composed) -> None:
        with psycopg.connect(self.server.url(), autocommit=True) as connection:
            connection.execute(statement)


def _name(database: Database) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(database.url)["dbname"])
