"""Where measures run: one PostgreSQL for us and for the baselines, servers beside it, all of it gone at the end."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from bench.fill import fill
from bench.servers import PORT, Process, Server
from infra.api_secrets import new_api_key
from infra.embedded_postgres import EmbeddedPostgres
from infra.migrations import migrate
from infra.postgres import Database
from infra.settings import Settings, load_settings

T = TypeVar("T")
SERVE = ("-c", "from cli.main import main; main()", "serve", "--single-port")
WORK = ("-c", "from cli.main import main; main()", "work")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How long and how much is measured.

    `many` licences stand for all that there could be; `growth` are numbers of licences, `histories` of one licence's
    events; `cached` is how many verdicts are in memory, `log_rows` how many rows a log has that is read or published.
    Without `workers`, what running workers cost is not measured.
    """

    rounds: int
    seconds: int
    warm_up: int
    licences: int
    many: int
    growth: tuple[int, ...]
    histories: tuple[int, ...]
    cached: int
    log_rows: int
    workers: bool


FULL = Sizes(
    rounds=5,
    seconds=6,
    warm_up=2,
    licences=20_000,
    many=1_000_000,
    growth=(1_000, 10_000, 100_000, 1_000_000),
    histories=(10, 100, 1_000, 10_000),
    cached=100_000,
    log_rows=200_000,
    workers=True,
)
QUICK = Sizes(
    rounds=1,
    seconds=1,
    warm_up=1,
    licences=5_000,
    many=20_000,
    growth=(5_000, 20_000),
    histories=(10, 1_000),
    cached=5_000,
    log_rows=10_000,
    workers=False,
)


class Lab:
    """Makes databases and servers for measures. Usable within `with`."""

    def __init__(self, sizes: Sizes, *, quiet: bool = False) -> None:
        self.sizes = sizes
        self._quiet = quiet
        self._began = time.monotonic()
        self._temporary = TemporaryDirectory(prefix="lizenzserver-bench-")
        self.folder = Path(self._temporary.name)
        # PostgreSQL runs as another user where we are root, and must get to its folder.
        self.folder.chmod(0o755)
        self.data_dir = self.folder / "service"
        self.data_dir.mkdir()
        self._postgres = EmbeddedPostgres(self.folder / "database")
        self._filled: dict[tuple[int, int], str] = {}
        self._numbers = count(1)
        self._made: list[Database] = []
        self.api_key = new_api_key()
        self.admin_key = f"adm_{secrets.token_urlsafe(32)}"

    def __enter__(self) -> Self:
        self.say("starting PostgreSQL")
        (self.folder / "database").mkdir()
        self._postgres.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._postgres.stop()
        self._temporary.cleanup()

    def say(self, what: str) -> None:
        """Tell who waits what happens now."""
        if not self._quiet:
            print(f"[{time.monotonic() - self._began:6.1f} s] {what}", file=sys.stderr, flush=True)

    @property
    def settings(self) -> Settings:
        """Return the settings under which our processes share their keys."""
        return load_settings({"DATA_DIR": str(self.data_dir)}, None)

    # Databases.

    def new_database(self) -> Database:
        """Make an empty database, for a baseline."""
        return self._create("template1")

    def filled_database(self, licences: int, seats: int = 1000) -> Database:
        """Make a database of ours with so many licences and one API key; equal ones are copied, not filled anew."""
        wanted = licences, seats
        if wanted not in self._filled:
            database = self.new_database()
            migrate(database)
            self.say(f"writing {licences:,} licences")
            last = time.monotonic()

            def told(done: int) -> None:
                nonlocal last
                if time.monotonic() - last > 10:  # noqa: PLR2004
                    last = time.monotonic()
                    self.say(f"{done:,} licences are there")

            fill(self.settings, database, licences, self.api_key, seats=seats, told=told)
            self._filled[wanted] = _name(database)
            self._made.remove(database)
        return self._create(self._filled[wanted])

    def copy(self, database: Database) -> Database:
        """Make a database with all that another one holds, to which nobody may be connected."""
        return self._create(_name(database))

    def tidy(self) -> None:
        """Drop all databases but those that others are copied from: of a million licences, each takes gigabytes."""
        while self._made:
            self.drop(self._made[-1])

    def drop(self, database: Database) -> None:
        """Drop a database, whoever is connected."""
        self._made.remove(database)
        self._execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(_name(database))))

    def _create(self, template: str) -> Database:
        name = f"bench_{next(self._numbers)}"
        # By default each copied page goes through the write-ahead log: of a million licences, for a minute.
        create = SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        self._execute(create.format(Identifier(name), Identifier(template)))
        url = self._postgres.url(dbname=name)
        self._made.append(Database(url, url))
        return self._made[-1]

    def _execute(self, statement: psycopg.sql.Composed) -> None:
        with psycopg.connect(self._postgres.url(), autocommit=True) as connection:
            connection.execute(statement)

    # Servers.

    def api(self, database: Database, *, workers: bool = False, ready: str = "/health/live", **settings: str) -> Server:
        """Give an API process of ours; with `workers`, they run within it, as in `make run`. See Server for `ready`."""
        name = "all in one" if workers else "api"
        arguments = [*SERVE, *([] if workers else ["--no-workers"])]
        return Server(name, arguments, self.folder, self._environ(database) | settings, ready)

    def worker(self, database: Database, name: str) -> Process:
        """Give a worker as a process of its own."""
        return Process(name, [*WORK, name], self.folder, self._environ(database))

    def baseline(self, name: str, *arguments: str) -> Server:
        """Give a server of bench/baselines."""
        return Server(name, ["-m", f"bench.baselines.{name}", PORT, *arguments], self.folder, {})

    def _environ(self, database: Database) -> dict[str, str]:
        return {
            "DATA_DIR": str(self.data_dir),
            "DATABASE_URL": database.url,
            "ADMIN_API_KEY": self.admin_key,
            "LOG_LEVEL": "warning",
        }

    # Rounds.

    def alternate(self, sides: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
        """Have each side measured in each round, in turns, every other round backwards."""
        found: dict[str, list[T]] = {name: [] for name in sides}
        rounds = self.sizes.rounds
        for number in range(rounds):
            for name in list(sides)[:: -1 if number % 2 else 1]:
                found[name].append(sides[name]())
                self.say(f"round {number + 1} of {rounds}, {name}: {found[name][-1]}")
        return found


def _name(database: Database) -> str:
    return str(conninfo_to_dict(database.url)["dbname"])
