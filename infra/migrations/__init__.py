"""The schema's history, one SQL file a step, and the runner that brings a database up to date."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.sql import SQL, Identifier

from infra.postgres import SCHEMA, SERVICE_ROLE, Database

MIGRATIONS_LOCK = 0x6C697A_6D6967
"""Key of the advisory lock that lets one process migrate at a time ('liz', 'mig')."""

MINIMUM_SERVER_VERSION = 150_000


class MigrationError(Exception):
    """The database can't be brought to this program's schema; the message is one line for a person."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step: its number, its name, its SQL."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the SQL: a step that was applied may not be edited."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """Return all steps in order."""
    found = sorted(path.name for path in files(__name__).iterdir() if path.name.endswith(".sql"))
    return [Migration(int(name[:4]), name, files(__name__).joinpath(name).read_text("utf-8")) for name in found]


def migrate(database: Database, on_step: Callable[[str], None] = lambda _: None) -> int:
    """Bring the database up to date and return how many steps were applied.

    Any number of processes may call this at once on an empty database. `on_step` is told each step's name.
    Raises MigrationError; psycopg.OperationalError where the server can't be reached.
    """
    with database.connect_owner() as connection:
        if connection.info.server_version < MINIMUM_SERVER_VERSION:
            msg = f"PostgreSQL 15 or later is needed, the server is version {connection.info.server_version // 10_000}"
            raise MigrationError(msg)
        connection.execute("SELECT pg_advisory_lock(%s)", (MIGRATIONS_LOCK,))
        _prepare(connection, database)
        applied = _applied(connection)
        todo = [step for step in migrations() if step.number not in applied]
        _check(applied)
        for step in todo:
            on_step(step.name)
            _apply(connection, step)
        connection.execute("SELECT ensure_usage_partitions(current_date - 1, current_date + 2)")
    return len(todo)


def pending(connection: Connection[Any]) -> list[str]:
    """Return the names of the steps that this database lacks."""
    applied = _applied(connection)
    return [step.name for step in migrations() if step.number not in applied]


def _prepare(connection: Connection[Any], database: Database) -> None:
    _ensure_role(connection)
    login = psycopg.conninfo.conninfo_to_dict(database.url).get("user") or connection.info.user
    try:
        connection.execute(SQL("GRANT {} TO {}").format(Identifier(SERVICE_ROLE), Identifier(str(login))))
    except psycopg.errors.InsufficientPrivilege as error:
        grant = f"GRANT {SERVICE_ROLE} TO {login}"
        msg = f"the login {login} must be a member of {SERVICE_ROLE}: as an administrator, {grant}"
        if not _is_member(connection, str(login)):
            raise MigrationError(msg) from error
    connection.execute(SQL("CREATE SCHEMA IF NOT EXISTS {}").format(Identifier(SCHEMA)))
    connection.execute(SQL("GRANT USAGE ON SCHEMA {} TO {}").format(Identifier(SCHEMA), Identifier(SERVICE_ROLE)))
    connection.execute(SQL("SET search_path TO {}").format(Identifier(SCHEMA)))
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations ("
        " number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT now())"
    )
    connection.execute(SQL("GRANT SELECT ON schema_migrations TO {}").format(Identifier(SERVICE_ROLE)))


def _ensure_role(connection: Connection[Any]) -> None:
    if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (SERVICE_ROLE,)).fetchone():
        return
    try:
        connection.execute(SQL("CREATE ROLE {} NOLOGIN").format(Identifier(SERVICE_ROLE)))
    except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        return  # Roles are shared by all databases of a server: another database's migration made it just now.
    except psycopg.errors.InsufficientPrivilege as error:
        msg = f"the role {SERVICE_ROLE} is missing and can't be made: as an administrator, CREATE ROLE {SERVICE_ROLE}"
        raise MigrationError(msg) from error


def _is_member(connection: Connection[Any], login: str) -> bool:
    row = connection.execute("SELECT pg_has_role(%s, %s, 'MEMBER') AS member", (login, SERVICE_ROLE)).fetchone()
    return bool(row and row["member"])


def _applied(connection: Connection[Any]) -> dict[int, str]:
    rows = connection.execute("SELECT number, checksum FROM schema_migrations").fetchall()
    return {row["number"]: row["checksum"] for row in rows}


def _check(applied: dict[int, str]) -> None:
    known = {step.number: step for step in migrations()}
    for number, checksum in applied.items():
        if number not in known:
            msg = (
                f"the database has migration {number}, which this program does not know: it is older than the database"
            )
            raise MigrationError(msg)
        if known[number].checksum != checksum:
            msg = f"migration {known[number].name} was edited after it had been applied"
            raise MigrationError(msg)


def _apply(connection: Connection[Any], step: Migration) -> None:
    with connection.transaction():
        connection.execute(step.sql)
        connection.execute(
            "INSERT INTO schema_migrations (number, name, checksum) VALUES (%s, %s, %s)",
            (step.number, step.name, step.checksum),
        )
