"""Secrets that anybody would try stop the start of what others can reach: one line, nothing made, nothing listening."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.support.command import environment, run

SERVICE_KEY = "A" * 43
EXPOSED = {"HOST": "0.0.0.0"}
BEHIND_A_PROXY = {"TRUSTED_PROXIES": "10.0.0.1"}
WEAK = {
    **dict.fromkeys(("ADMIN_API_KEY", "ADMIN_SECRET", "CLIENT_TOKEN", "ADMIN_TOKEN"), ("changeme", EXPOSED)),
    "SERVICE_KEY": (SERVICE_KEY, EXPOSED),
    "DATABASE_URL": ("postgresql://postgres:postgres@db.invalid/licensing", {}),
    "DATABASE_OWNER_URL": ("postgresql://postgres:password@db.invalid/licensing", {}),
    "AMQP_URL": ("amqp://guest:guest@mq.invalid/", {}),
    "REDIS_URL": ("redis://:redis@cache.invalid/0", {}),
}


def check_refused(environ: dict[str, str], *arguments: str, name: str, secret: str) -> None:
    ended = run(environ, *arguments)

    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert f"{name}: " in line
    assert "too weak" in line
    assert secret not in line
    assert not Path(environ["DATA_DIR"]).exists()
    for port in (value for key, value in environ.items() if key.endswith("_PORT")):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(port))) != 0


@pytest.mark.parametrize("name", WEAK)
def test_a_weak_secret_stops_the_start(tmp_path: Path, name: str) -> None:
    value, exposed = WEAK[name]
    check_refused(environment(tmp_path / "data", **exposed, **{name: value}), "serve", name=name, secret=value)


def test_behind_a_proxy_too(tmp_path: Path) -> None:
    environ = environment(tmp_path / "data", **BEHIND_A_PROXY, ADMIN_SECRET="admin-secret-1234567890")
    check_refused(environ, "serve", name="ADMIN_SECRET", secret="admin-secret-1234567890")


def test_from_a_file_too(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("your-secret-key-here\n")
    environ = environment(tmp_path / "data", **EXPOSED, CLIENT_TOKEN_FILE=str(tmp_path / "secret"))
    check_refused(environ, "serve", "--service", "license", name="CLIENT_TOKEN", secret="your-secret-key-here")


@pytest.mark.parametrize("worker", ["relay", "projector", "anomaly"])
def test_workers_do_not_start_with_it_either(tmp_path: Path, worker: str) -> None:
    environ = environment(tmp_path / "data", AMQP_URL="amqp://guest:guest@mq.invalid/")
    check_refused(environ, "work", worker, name="AMQP_URL", secret="guest:guest")
