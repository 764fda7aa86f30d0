"""Four processes start at once on a server that has nothing yet: all start, and the schema is made once."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path

import psycopg
import requests

from infra.embedded_postgres import EmbeddedPostgres
from infra.migrations import migrations
from tests.support.command import Serving, environment

PROCESSES = 4


def test_all_start_and_the_schema_is_made_once(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "server")
    server.start()
    try:
        data_dir = tmp_path / "data"
        data_dir.mkdir()
        with ExitStack() as stack:
            starting = [Serving(environment(data_dir, DATABASE_URL=server.url())) for _ in range(PROCESSES)]
            running = [stack.enter_context(serving) for serving in starting]
            use(running, data_dir)
        with psycopg.connect(server.url()) as connection:
            applied = connection.execute("SELECT number FROM lizenzserver.schema_migrations ORDER BY 1").fetchall()
            identities = connection.execute("SELECT count(*) FROM lizenzserver.service_identity").fetchone()
        assert [number for (number,) in applied] == [step.number for step in migrations()]
        assert identities == (1,)
        nobody_holds_a_lock(server)
    finally:
        server.stop()


def nobody_holds_a_lock(server: EmbeddedPostgres) -> None:
    """Wait until no session does: those of processes that were killed end when the server has noticed."""
    deadline = time.monotonic() + 10
    with psycopg.connect(server.url(), autocommit=True) as connection:
        while connection.execute("SELECT FROM pg_locks WHERE locktype = 'advisory'").fetchall():
            assert time.monotonic() < deadline
            time.sleep(0.01)


def use(running: list[Serving], data_dir: Path) -> None:
    """Make a licence by the one process, take a seat by the next, and validate it by all."""
    key = {"X-Admin-API-Key": (data_dir / "credentials" / "ADMIN_API_KEY").read_text().strip()}
    secret = {"X-Admin-Secret": (data_dir / "credentials" / "ADMIN_SECRET").read_text().strip()}
    created = requests.post(
        f"{running[0].url('admin')}/api/v1/admin/licenses", json={"customer_id": "a", "max_devices": 1}, headers=key
    )
    assert created.status_code == 201, created.text
    made = requests.post(f"{running[1].url('auth')}/api/v1/auth/api-key", json={"client_name": "a"}, headers=secret)
    assert made.status_code == 201, made.text
    program = {"X-API-Key": made.json()["api_key"]}
    device = {"license_key": created.json()["license_key"], "hardware_id": "pc"}
    taken = requests.post(f"{running[2].url('license')}/api/v1/license/activate", json=device, headers=program)
    assert taken.status_code == 201, taken.text
    for serving in running:
        assert serving.get("license", "/health/ready").status_code == 200
        said = requests.post(f"{serving.url('license')}/api/v1/license/validate", json=device, headers=program)
        assert (said.status_code, json.loads(said.text)["valid"]) == (200, True)
