"""The database that a command works on: the embedded one or the one that DATABASE_URL names, up to date."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from cli.embedded import EmbeddedServer
from cli.errors import Failure
from cli.output import say, working
from infra import logs
from infra.migrations import migrate, migrations
from infra.postgres import SCHEMA, Database
from infra.settings import Settings, load_settings


def read_settings() -> Settings:
    """Read the settings of this process. Raises SettingsError."""
    return load_settings(os.environ, Path(".env"))


def settings_for_command() -> Settings:
    """Read the settings for a command other than `serve`, which says nothing but warnings beside its output."""
    settings = read_settings()
    logs.configure(settings.log_format, "error" if settings.log_level == "error" else "warning")
    return settings


@contextmanager
def opened(settings: Settings, *, keep_up: bool = False) -> Iterator[Database]:
    """Give the database, which may still need migrations; the embedded server is started and stopped where needed.

    With `keep_up`, it is also started again where it ends meanwhile.

    Raises EmbeddedPostgresError.
    """
    if settings.database_url is None:
        with EmbeddedServer(settings, keep_up=keep_up) as server:
            yield server.database
        return
    owner = settings.database_owner_url or settings.database_url
    yield Database(settings.database_url.reveal(), owner.reveal())


@contextmanager
def opened_for_command(settings: Settings) -> Iterator[Database]:
    """Give the database in this program's schema: the embedded one is migrated, another must have been."""
    if settings.database_url is None and not (settings.data_dir / "postgres").exists():
        say(f"there is no database in {settings.data_dir} yet: making one")
    with ExitStack() as held:
        with working("Preparing the database"):
            database = held.enter_context(opened(settings))
            if settings.database_url is None:
                bring_up_to_date(database)
            elif not is_current(database):
                raise Failure("the database is not at this program's schema: run `lizenzserver migrate` first")
        yield database


def bring_up_to_date(database: Database, on_step: Callable[[str], None] = lambda _: None) -> int:
    """Apply what is missing and return how many steps that were.

    A database that is up to date is only read, so that the owner's login is needed for changes alone.
    Raises MigrationError and psycopg's errors.
    """
    if not is_current(database):
        return migrate(database, on_step)
    with database.connect() as connection:
        connection.execute("SELECT ensure_usage_partitions(current_date - 1, current_date + 2)")
    return 0


def is_current(database: Database) -> bool:
    """Tell whether exactly this program's migrations have been applied."""
    expected = {(step.number, step.checksum) for step in migrations()}
    with database.connect_login() as connection:
        try:
            rows = connection.execute(f"SELECT number, checksum FROM {SCHEMA}.schema_migrations").fetchall()  # noqa: S608
        except (
            psycopg.errors.UndefinedTable,
            psycopg.errors.InvalidSchemaName,
            psycopg.errors.InsufficientPrivilege,
        ):
            return False
    return {(row["number"], row["checksum"]) for row in rows} == expected
