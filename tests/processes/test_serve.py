"""`lizenzserver serve` as a person and a service manager see it: one command, one process, nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psycopg
import pytest
import requests

from infra.embedded_postgres import EmbeddedPostgres
from infra.postgres import Database
from tests.support.command import SECONDS, Serving, environment, postgres_of, run


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data"
    folder.mkdir()
    yield folder
    EmbeddedPostgres(folder).stop()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; what can't be reached meanwhile does not hold it."""
    deadline = time.monotonic() + SECONDS
    while True:
        with suppress(requests.ConnectionError):
            if condition():
                return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kill_postgres_of(data_dir: Path) -> list[int]:
    """Kill what is a PostgreSQL of this data folder; what has just been forked off it may end by itself meanwhile."""
    found = postgres_of(data_dir)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


def is_well(serving: Serving, service: str) -> bool:
    return bool(serving.get(service, "/health/ready").json()["status"] == "ok")


def listed(environ: dict[str, str]) -> list[str]:
    shown = run(environ, "licenses", "list", "--json")
    assert shown.returncode == 0, shown.stderr
    return [one["customer_id"] for one in json.loads(shown.stdout)["licenses"]]


def one_line(refused: subprocess.CompletedProcess[str]) -> str:
    assert (refused.returncode, refused.stdout) == (1, "")
    errors = [line for line in refused.stderr.splitlines() if not re.match(r"\d{4}-", line)]
    assert len(errors) == 1, refused.stderr
    return errors[0]


def test_from_nothing_to_a_valid_licence_by_what_is_printed(data_dir: Path) -> None:
    with Serving(environment(data_dir)) as serving:
        for service in ("auth", "license", "analytics", "admin"):
            assert f"{serving.url(service)}/docs" in serving.printed
            wait_until(partial(is_well, serving, service))
            assert serving.get(service, "/docs").status_code == 200
        assert str(data_dir / "credentials" / "ADMIN_API_KEY") in serving.printed
        for file in (data_dir / "credentials").iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert file.read_text().strip() not in serving.printed

        # Each command is a paragraph after its numbered line; they are for one shell.
        steps = re.findall(r"^\d\. [^\n]*:\n(.*?)\n\n", serving.printed, re.DOTALL | re.MULTILINE)
        assert len(steps) == 3
        shell = ["sh", "-euc", "\n".join(steps)]
        typed = subprocess.run(shell, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True)
        api_key, license_key, activated, validated = typed.stdout.splitlines()
        assert api_key.startswith("sk_")
        assert license_key.startswith("LIC-")
        assert json.loads(activated)["limits"] == {"max_devices": 3, "current_devices": 1}
        assert json.loads(validated)["valid"] is True

        assert serving.end(signal.SIGTERM) == 0
    assert postgres_of(data_dir) == []


def test_the_services_have_no_more_rights_than_they_need(data_dir: Path) -> None:
    with Serving(environment(data_dir)):
        server = EmbeddedPostgres(data_dir)
        with psycopg.connect(server.url()) as connection:
            users = connection.execute(
                "SELECT DISTINCT s.usename, r.rolsuper FROM pg_stat_activity s JOIN pg_roles r ON r.rolname = s.usename"
                " WHERE s.application_name LIKE 'lizenzserver%'"
            ).fetchall()
            owners = connection.execute(
                "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'lizenzserver'"
            ).fetchall()
        assert users == [("lizenzserver", False)]
        assert owners == [("lizenzserver_owner",)]
        with (
            psycopg.connect(server.url("lizenzserver")) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute("DELETE FROM lizenzserver.licensing_events")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_and_keeps_what_it_has(data_dir: Path, number: signal.Signals) -> None:
    environ = environment(data_dir)
    with Serving(environ) as serving:
        assert run(environ, "licenses", "create", "--customer", "acme").returncode == 0
        assert serving.end(number) == 0
    assert postgres_of(data_dir) == []
    with Serving(environ) as again:
        assert "Try it" not in again.printed  # a later start is brief
        assert listed(environ) == ["acme"]
        assert again.end(signal.SIGTERM) == 0


def test_impatience_changes_nothing(data_dir: Path) -> None:
    with Serving(environment(data_dir)) as serving:
        assert serving.end(signal.SIGTERM, repeatedly=signal.SIGINT) == 0
    assert postgres_of(data_dir) == []


def test_a_signal_during_the_start_leaves_nothing_running(data_dir: Path) -> None:
    serving = Serving(environment(data_dir))
    while not (data_dir / "serve.lock").exists():
        assert serving._process.poll() is None
    assert serving.end(signal.SIGTERM) == 0
    serving.__exit__(None, None, None)
    assert postgres_of(data_dir) == []


def test_a_start_after_kill_9_goes_on_where_it_was(data_dir: Path) -> None:
    environ = environment(data_dir)
    with Serving(environ) as serving:
        run(environ, "licenses", "create", "--customer", "acme")
        serving.end(signal.SIGKILL)
    assert postgres_of(data_dir) != []
    with Serving(environ) as again:
        assert listed(environ) == ["acme"]
        assert again.end(signal.SIGTERM) == 0
    assert postgres_of(data_dir) == []


def test_a_start_after_all_was_killed_recovers(data_dir: Path) -> None:
    environ = environment(data_dir)
    with Serving(environ) as serving:
        run(environ, "licenses", "create", "--customer", "acme")
        serving.end(signal.SIGKILL)
    kill_postgres_of(data_dir)
    with Serving(environ) as again:
        assert listed(environ) == ["acme"]
        assert again.end(signal.SIGTERM) == 0


def test_a_database_that_ends_under_it_is_started_again(data_dir: Path) -> None:
    environ = environment(data_dir)
    with Serving(environ) as serving:
        run(environ, "licenses", "create", "--customer", "acme")
        killed = kill_postgres_of(data_dir)
        wait_until(lambda: set(postgres_of(data_dir)).isdisjoint(killed) and is_well(serving, "admin"))
        assert listed(environ) == ["acme"]
        assert serving.end(signal.SIGTERM) == 0
    assert postgres_of(data_dir) == []


def test_a_folder_is_served_once(data_dir: Path) -> None:
    with Serving(environment(data_dir)) as serving:
        assert "is served by another process (pid " in one_line(run(environment(data_dir), "serve"))
        assert serving.get("auth", "/health/ready").status_code == 200


def test_commands_start_the_database_for_themselves_and_stop_it_again(data_dir: Path) -> None:
    environ = environment(data_dir)
    assert run(environ, "licenses", "create", "--customer", "acme").returncode == 0
    assert postgres_of(data_dir) == []
    assert listed(environ) == ["acme"]


def test_a_command_leaves_the_database_to_the_server(data_dir: Path) -> None:
    environ = environment(data_dir)
    with Serving(environ) as serving:
        server = EmbeddedPostgres(data_dir)._postmaster()
        assert listed(environ) == []
        assert serving.get("auth", "/health/ready").json()["checks"]["database"] == {"ok": True}
        assert EmbeddedPostgres(data_dir)._postmaster() == server, "it was stopped, and started again"


def test_one_service_alone(data_dir: Path) -> None:
    with Serving(environment(data_dir), "--service", "license") as serving:
        assert serving.get("license", "/health/ready").status_code == 200
        with pytest.raises(requests.ConnectionError):
            serving.get("admin", "/health/ready")


def test_all_on_a_single_port(data_dir: Path) -> None:
    environ = environment(data_dir)
    with Serving({**environ, "SINGLE_PORT": environ["AUTH_PORT"]}, "--single-port") as serving:
        paths = serving.get("auth", "/openapi.json").json()["paths"]
        assert {"/api/v1/auth/token", "/api/v1/admin/licenses", "/licenses-api/v1/activate"} <= set(paths)


def test_two_servers_over_one_database_share_a_data_folder(data_dir: Path, database: Database) -> None:
    one, other = (environment(data_dir, DATABASE_URL=database.url) for _ in range(2))
    with Serving(one) as first, Serving(other) as second:
        admin = {"X-Admin-API-Key": (data_dir / "credentials" / "ADMIN_API_KEY").read_text().strip()}
        path = "/api/v1/admin/licenses"
        made = requests.post(first.url("admin") + path, json={"customer_id": "acme"}, headers=admin, timeout=30)
        assert made.status_code == 201
        seen = requests.get(f"{second.url('admin')}{path}/{made.json()['license_id']}", headers=admin, timeout=30)
        assert seen.json()["license_key"] == made.json()["license_key"]
        assert (first.end(signal.SIGTERM), second.end(signal.SIGTERM)) == (0, 0)
    assert not (data_dir / "postgres").exists()


def test_a_database_of_another_service_key_is_refused(data_dir: Path, database: Database, tmp_path: Path) -> None:
    """What it holds could not be read, and what would be added could not be read by those whose it is."""
    with Serving(environment(data_dir, DATABASE_URL=database.url)) as first:
        stranger = environment(tmp_path / "other", DATABASE_URL=database.url)
        for command in (["serve"], ["licenses", "create", "--customer", "acme"]):
            refused = run(stranger, *command)
            assert one_line(refused).startswith("error: this database was filled under another service key"), refused
        assert is_well(first, "license")
    with database.connect() as connection:
        assert connection.execute("SELECT FROM licensing_events").fetchall() == []


def test_a_taken_port_is_named_with_its_setting(data_dir: Path) -> None:
    environ = environment(data_dir)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(environ["ADMIN_PORT"])))
        taken.listen()
        error = one_line(run(environ, "serve"))
    assert error.startswith(f"error: ADMIN_PORT: can't listen on 127.0.0.1 port {environ['ADMIN_PORT']}")
    assert postgres_of(data_dir) == []


@pytest.mark.parametrize(
    "name, value, why",
    [
        ("LICENSE_PORT", "0", "LICENSE_PORT: '0' is not a whole number from 1 to 65535"),
        ("DATABASE_URL", "postgresql://u:secret@127.0.0.1:1/x", "the database can't be reached"),
        ("SIGNING_KEYS", "[]", "there is no signing key"),
        ("HOST", "no-such-host.invalid", "HOST: no-such-host.invalid can't be resolved"),
    ],
)
def test_a_wrong_setting_ends_the_start_in_one_line(data_dir: Path, name: str, value: str, why: str) -> None:
    error = one_line(run(environment(data_dir, **{name: value}), "serve"))
    assert why in error
    assert "secret" not in error
    assert postgres_of(data_dir) == []
