"""Backups as docs/operations.md makes them, by its very commands, while orders go on: what was restored is whole.

All that had been answered before is there, nothing is there by half, each view is what its log says, programs go on.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import psycopg
import pytest
import requests

from infra.embedded_postgres import EmbeddedPostgres
from infra.postgres import Database
from tests.support.blocks import marked
from tests.support.command import SECONDS, Serving, command, environment, postgres_of, run
from tests.support.invariants import check_invariants, check_outcomes
from tests.support.own_server import own_server
from tests.support.workers import are_at_the_end, differing_rows

ROOT = Path(__file__).parents[2]
OPERATIONS = ROOT / "docs" / "operations.md"
VALIDATIONS = 3
VIEWS = ("licenses", "usage", "devices-seen", "seats")


def shell(folder: Path, *commands: str, **environ: str) -> str:
    """Run commands of a page in a folder that is laid out as the page says; return what they print."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "".join(commands)],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


PROGRAMS = marked(OPERATIONS, "backup: programs")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Give a folder with a `.venv` as the project's own is, and room for a backup; ends all servers in it."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    start = " ".join(f"'{word}'" for word in command())
    (programs / "lizenzserver").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {start} "$@"\n')
    (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    yield tmp_path
    for name in ("var", "var.before", "restored"):
        if (tmp_path / name).exists():
            EmbeddedPostgres(tmp_path / name).stop()


def here(folder: Path, commands: str) -> str:
    """Put a test's own folders in the place of those that the page names as examples."""
    return commands.replace("/backup/", f"{folder}/backup/").replace("/tmp/restored", f"{folder}/restored")


@dataclass
class Customers:
    """Programs and an administrator of one service. `answered` has the status of each order, by its request id."""

    serving: Serving
    data_dir: Path
    answered: dict[str, int] = field(default_factory=dict)
    licenses: list[dict[str, Any]] = field(default_factory=list)
    api_key: str = ""
    tokens: dict[str, Any] = field(default_factory=dict)

    def post(self, service: str, path: str, body: dict[str, Any], **headers: str) -> requests.Response:
        return requests.post(self.serving.url(service) + path, json=body, headers=headers, timeout=SECONDS)

    def secret(self, name: str) -> str:
        return (self.data_dir / "credentials" / name).read_text().strip()

    def begin(self) -> None:
        """Make an API key, licences, devices, tokens, uses, and some things that have ended."""
        without_limits = {"client_name": "c", "requests_per_minute": None, "requests_per_hour": None}
        secret = {"X-Admin-Secret": self.secret("ADMIN_SECRET")}
        made = self.post("auth", "/api/v1/auth/api-key", without_limits, **secret)
        self.api_key = made.json()["api_key"]
        for number in range(4):
            self.order(number)
        first = self.licenses[0]
        for _ in range(VALIDATIONS):
            assert self.validate(first, "pc-0").json()["valid"] is True
        device = {"license_id": first["license_id"], "hardware_id": "pc-0"}
        self.tokens = self.post("auth", "/api/v1/auth/token", device, **{"X-API-Key": self.api_key}).json()
        self.program("deactivate", self.licenses[1], "pc-1", "ended")

    def order(self, number: int) -> None:
        """Make a licence and activate a device of it."""
        headers = {"X-Admin-API-Key": self.secret("ADMIN_API_KEY"), "X-Request-ID": f"issue-{number}"}
        body = {"customer_id": f"customer-{number}", "email": f"c{number}@example.com", "max_devices": 2}
        made = self.post("admin", "/api/v1/admin/licenses", body, **headers)
        self.answered[f"issue-{number}"] = made.status_code
        self.licenses.append(made.json())
        self.program("activate", self.licenses[-1], f"pc-{number}", f"activate-{number}")

    def program(self, what: str, license: dict[str, Any], hardware_id: str, request_id: str) -> None:
        body = {"license_key": license["license_key"], "hardware_id": hardware_id}
        headers = {"X-API-Key": self.api_key, "X-Request-ID": request_id}
        self.answered[request_id] = self.post("license", f"/api/v1/license/{what}", body, **headers).status_code

    def erase(self, number: int) -> None:
        """Erase a customer, of whom a backup may still have all."""
        headers = {"X-Admin-API-Key": self.secret("ADMIN_API_KEY")}
        path = f"/api/v1/admin/customers/customer-{number}/erase"
        assert self.post("admin", path, {"reason": "ticket"}, **headers).status_code == 200

    def shown(self, number: int) -> dict[str, Any]:
        """Return a licence as administrators see it."""
        found: dict[str, Any] = requests.get(
            f"{self.serving.url('admin')}/api/v1/admin/licenses/{self.licenses[number]['license_id']}",
            headers={"X-Admin-API-Key": self.secret("ADMIN_API_KEY")},
            timeout=SECONDS,
        ).json()
        return found

    def validate(self, license: dict[str, Any], hardware_id: str) -> requests.Response:
        body = {"license_key": license["license_key"], "hardware_id": hardware_id}
        return self.post("license", "/api/v1/license/validate", body, **{"X-API-Key": self.api_key})

    @contextmanager
    def going_on(self) -> Iterator[dict[str, int]]:
        """Order more and more meanwhile; give what had been answered before that."""
        before, ended = dict(self.answered), Event()

        def go_on() -> None:
            while not ended.is_set():
                self.order(len(self.licenses))

        thread = Thread(target=go_on)
        thread.start()
        try:
            yield before
        finally:
            ended.set()
            thread.join(SECONDS)
        assert len(self.answered) > len(before)


def check_restored(database: Database, before: dict[str, int]) -> None:
    """Check that what had been answered is there, that all of it is whole, and that the views are what the log says."""
    log = check_invariants(database)
    assert set(before.values()) <= {200, 201}
    check_outcomes(log, before)


def check_service(customers: Customers, serving: Serving) -> None:
    """Check that programs and administrators go on as before."""
    customers.serving = serving
    valid = customers.validate(customers.licenses[0], "pc-0")
    assert (valid.status_code, valid.json().get("valid")) == (200, True), valid.text
    assert customers.validate(customers.licenses[1], "pc-1").json()["error_code"] == "DEVICE_NOT_ACTIVATED"
    beat = customers.post(
        "license", "/api/v1/license/heartbeat", {}, Authorization=f"Bearer {customers.tokens['access_token']}"
    )
    assert beat.status_code == 200, beat.text
    shown = customers.shown(0)
    assert (shown["customer_id"], shown["email"]) == ("customer-0", "c0@example.com")
    customers.answered.clear()
    customers.order(9_999)
    assert customers.answered == {"issue-9999": 201, "activate-9999": 201}


def test_a_base_backup_of_the_embedded_database(folder: Path) -> None:
    data_dir = folder / "var"
    with Serving(environment(data_dir)) as serving:
        customers = Customers(serving, data_dir)
        customers.begin()
        with customers.going_on() as before:
            shell(folder, PROGRAMS, here(folder, marked(OPERATIONS, "backup: embedded")))
        customers.erase(2)
        assert serving.end(signal.SIGTERM) == 0

    # Elsewhere, as the page advises: its commands but the last, which serves until somebody ends it.
    tried = here(folder, marked(OPERATIONS, "backup: try embedded"))
    assert tried.count("lizenzserver serve\n") == 1
    tried = tried.replace(".venv/bin/lizenzserver serve\n", "")
    shell(folder, tried)
    restored = EmbeddedPostgres(folder / "restored")
    restored.start()
    url = restored.url()
    check_restored(Database(url, url), before)
    assert differing_rows(Database(url, url)) == {}
    restored.stop()

    shell(folder, here(folder, marked(OPERATIONS, "backup: restore embedded")))
    assert (data_dir.stat().st_mode & 0o777, (data_dir / "keys").stat().st_mode & 0o777) == (0o700, 0o700)
    with Serving(environment(data_dir)) as serving:
        check_service(customers, serving)
        shown = customers.shown(2)
        assert (shown["customer_id"], shown["email"]) == (None, None), (
            "the register has erased again whom it brought back"
        )
        assert serving.end(signal.SIGTERM) == 0
    assert postgres_of(data_dir) == []


@pytest.mark.parametrize("usage", ["with", "without"])
def test_a_dump_of_ones_own_database(folder: Path, usage: str) -> None:
    data_dir = folder / "var"
    data_dir.mkdir()
    dump = marked(OPERATIONS, "backup: own")
    if usage == "without":
        (option,) = re.findall(r"`(--exclude-table='[^']+')`", (ROOT / "docs" / "operations.md").read_text("utf-8"))
        dump = dump.replace("--schema", f"{option} --schema")
    with own_server() as (_, settings), Serving(environment(data_dir, **settings)) as serving:
        customers = Customers(serving, data_dir)
        customers.begin()
        _wait_until_counted(Database(settings["DATABASE_URL"], settings["DATABASE_OWNER_URL"]))
        with customers.going_on() as before:
            shell(folder, PROGRAMS, dump, **settings)
        assert serving.end(signal.SIGTERM) == 0
    with own_server() as (server, settings):
        shell(folder, PROGRAMS, marked(OPERATIONS, "backup: restore own"), **settings)
        check_restored(Database(settings["DATABASE_URL"], settings["DATABASE_OWNER_URL"]), before)
        environ = environment(data_dir, **settings)
        for view in VIEWS if usage == "with" else ("licenses", "seats"):
            checked = run(environ, "check", view)
            assert checked.returncode == 0, (view, checked.stdout, checked.stderr)
        with psycopg.connect(server.url(dbname="licensing")) as connection:
            counted = connection.execute("SELECT sum(validations) FROM lizenzserver.usage_days").fetchone()
            left = connection.execute("SELECT count(*) FROM lizenzserver.usage").fetchone()
        assert counted is not None
        assert counted[0] >= VALIDATIONS
        assert left is not None
        assert (left[0] > 0) == (usage == "with")
        with Serving(environ) as serving:
            check_service(customers, serving)
            assert serving.end(signal.SIGTERM) == 0
    assert not (data_dir / "postgres").exists()


def _wait_until_counted(database: Database) -> None:
    """Wait until the views have the validations: the last may be stored a moment after it was answered."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with suppress(psycopg.Error), database.connect() as connection:
            row = connection.execute("SELECT sum(validations) AS counted FROM usage_days").fetchone()
            if row is not None and (row["counted"] or 0) >= VALIDATIONS and are_at_the_end(database):
                return
        time.sleep(0.05)
    raise AssertionError("the views do not follow")


def test_a_dump_needs_programs_that_are_not_older_than_the_server(folder: Path) -> None:
    """The page's own line finds such ones, whatever the system has."""
    printed = shell(folder, PROGRAMS, "pg_dump --version; pg_restore --version; command -v pg_dump pg_restore")

    assert printed.count("(PostgreSQL) 18.") == 2
    assert printed.count("/pginstall/bin/pg_") == 2


@contextmanager
def container(secrets: Path) -> Iterator[EmbeddedPostgres]:
    """Give a server as the container is after its first start: roles.sql was run by the superuser."""
    with TemporaryDirectory(prefix="lizenzserver-container-") as folder:
        server = EmbeddedPostgres(Path(folder))
        server.start()
        try:
            with psycopg.connect(server.url(), autocommit=True) as connection:
                connection.execute("CREATE DATABASE licensing")
            with psycopg.connect(server.url(dbname="licensing"), autocommit=True) as connection:
                roles = (ROOT / "infra" / "compose" / "roles.sql").read_text("utf-8")
                connection.execute(roles.replace("/run/secrets", str(secrets)))
            yield server
        finally:
            server.stop()


DOCKER = """#!/bin/sh
# In place of a container, the server that listens in $PGHOST: what is to be run in it is run here.
[ "$2" = exec ] || exit 0
shift 4
exec "$@"
"""


def test_a_dump_of_the_containers_database(folder: Path) -> None:
    for name in ("postgres_owner_password", "postgres_service_password"):
        (folder / name).write_text("made up\n")
    (folder / "docker").write_text(DOCKER)
    (folder / "docker").chmod(0o755)
    (folder / "data").mkdir()
    on_path = f'{PROGRAMS}PATH="{folder}:$PATH"\n'
    with container(folder) as server:
        settings = logins(server)
        environ = environment(folder / "data", **settings)
        for arguments in (["migrate"], ["licenses", "create", "--customer", "acme"]):
            assert run(environ, *arguments).returncode == 0
        shell(folder, on_path, marked(OPERATIONS, "backup: containers"), PGHOST=host(server))
        log = check_invariants(Database(settings["DATABASE_URL"], settings["DATABASE_OWNER_URL"]))
        assert run(environ, "licenses", "create", "--customer", "too late").returncode == 0
        for _ in range(2):  # Into the database that it is from, and once more.
            shell(folder, on_path, marked(OPERATIONS, "backup: restore containers"), PGHOST=host(server))
            assert check_invariants(Database(settings["DATABASE_URL"], settings["DATABASE_OWNER_URL"])) == log
    with container(folder) as server:
        settings = logins(server)
        shell(folder, on_path, marked(OPERATIONS, "backup: restore containers"), PGHOST=host(server))
        assert check_invariants(Database(settings["DATABASE_URL"], settings["DATABASE_OWNER_URL"])) == log
        environ = environment(folder / "data", **settings)
        assert run(environ, "migrate").returncode == 0
        assert "acme" in run(environ, "licenses", "list").stdout


def logins(server: EmbeddedPostgres) -> dict[str, str]:
    names = {"DATABASE_URL": "lizenzserver", "DATABASE_OWNER_URL": "lizenzserver_owner"}
    return {name: server.url(login, "licensing") for name, login in names.items()}


def host(server: EmbeddedPostgres) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(server.url())["host"])
