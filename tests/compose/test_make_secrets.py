"""The script that makes the secrets: all that compose.yaml names, strong, for its owner only, and never over others."""

from __future__ import annotations

import base64
import stat
import subprocess
from pathlib import Path

import psycopg
import pytest
from yarl import URL

from infra.keyring import Keyring
from infra.settings import load_settings
from tests.compose.files import MAKE_SECRETS, compose


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(MAKE_SECRETS), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8").rstrip("\n") for path in folder.iterdir()}


def test_all_that_is_named_is_made_for_the_owner_only(secrets: Path) -> None:
    assert {path.name for path in secrets.iterdir()} == set(compose()["secrets"])
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o444}


def test_addresses_hold_the_passwords(secrets: Path) -> None:
    made = texts(secrets)
    for url, password in (
        ("database_url", "postgres_service_password"),
        ("database_owner_url", "postgres_owner_password"),
    ):
        assert psycopg.conninfo.conninfo_to_dict(made[url])["password"] == made[password]
    broker = dict(line.split(" = ") for line in made["rabbitmq_user"].splitlines())
    assert URL(made["amqp_url"]).user == broker["default_user"]
    assert URL(made["amqp_url"]).password == broker["default_pass"]


def test_keys_and_credentials_are_taken(secrets: Path, tmp_path: Path) -> None:
    made = texts(secrets)
    Keyring.open(tmp_path / "keys", made["service_key"], made["signing_keys"])
    assert not (tmp_path / "keys").exists()
    chosen = {name.upper(): made[name] for name in ("admin_api_key", "admin_secret", "client_token", "admin_token")}
    load_settings({**chosen, "HOST": "0.0.0.0"}, None)
    assert len(base64.urlsafe_b64decode(made["service_key"] + "=")) == 32


def test_no_two_are_the_same(secrets: Path, tmp_path: Path) -> None:
    assert make(tmp_path, "others").returncode == 0
    ours, others = texts(secrets), texts(tmp_path / "others")
    assert len(set(ours.values()) | set(others.values())) == len(ours) + len(others)


def test_nothing_that_is_there_is_touched(tmp_path: Path) -> None:
    assert make(tmp_path).returncode == 0
    before = texts(tmp_path / "secrets")
    again = make(tmp_path)
    assert again.returncode == 1
    assert again.stderr.startswith("error: secrets is there already")
    assert again.stderr.count("\n") == 1
    assert texts(tmp_path / "secrets") == before


def test_a_failure_leaves_no_half_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "base64").write_text("#!/bin/sh\n")
    (tools / "base64").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    failed = make(tmp_path)
    assert failed.returncode == 1
    assert "no random bytes" in failed.stderr
    assert not (tmp_path / "secrets").exists()
