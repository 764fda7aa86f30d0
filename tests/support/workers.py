"""Worker processes, started as an operator starts them, and what must hold once they have caught up."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from commands.event_mapper import decoder
from infra.postgres import Database
from projections.rebuild import Rebuild
from projections.registry import ASYNCHRONOUS
from tests.support.command import ROOT, command

INSTANCE = "test-installation"


class WorkerProcess:
    """`lizenzserver work NAME`, running within `with`; killed at the end."""

    def __init__(
        self, database: Database, name: str, data_dir: Path, amqp_url: str | None = None, **settings: str
    ) -> None:
        self.log_path = data_dir / f"{name}-{id(self)}.log"
        plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        environ = {**plain, "PYTHONPATH": str(ROOT), "DATA_DIR": str(data_dir), "DATABASE_URL": database.url}
        environ |= settings
        if amqp_url is not None:
            environ["AMQP_URL"] = amqp_url
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command("work", name), cwd=data_dir, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(30)

    def stop(self) -> int:
        """Ask it to end; return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)

    def log(self) -> str:
        return self.log_path.read_text()


def identify(database: Database) -> None:
    """Give the database the identity that the first start of a service gives it."""
    with database.connect() as connection:
        connection.execute("INSERT INTO service_identity (key_fingerprint) VALUES (%s)", (INSTANCE,))


def holder(database: Database, worker: str) -> int | None:
    """Return the process id of who holds a worker's lease, if it still runs."""
    with database.connect() as connection:
        row = connection.execute(
            "SELECT holder_name FROM leases WHERE worker = %s AND expires_at > clock_timestamp()", (worker,)
        ).fetchone()
    return int(row["holder_name"].rpartition(":")[2]) if row else None


def are_at_the_end(database: Database, *consumers: str) -> bool:
    """Tell whether consumers, by default those of the projector, have passed all that both logs hold."""
    names = consumers or tuple(projection.name for projection in ASYNCHRONOUS)
    with database.connect() as connection:
        (ends,) = connection.execute(
            "SELECT coalesce((SELECT max(notification_id) FROM licensing_events), 0) AS events,"
            " coalesce((SELECT max(id) FROM usage), 0) AS usage"
        ).fetchall()
        found = connection.execute("SELECT * FROM consumers WHERE consumer = ANY(%s)", (list(names),)).fetchall()
    return len(found) == len(names) and all(_has_passed(row, ends) for row in found)


def _has_passed(row: dict[str, Any], ends: dict[str, Any]) -> bool:
    return (row["event_position"] is None or row["event_position"] >= ends["events"]) and (
        row["usage_position"] is None or row["usage_position"] >= ends["usage"]
    )


def differing_rows(database: Database) -> dict[str, int]:
    """Return which tables of the asynchronous views differ from a fold of the logs, and by how many rows."""
    found: dict[str, int] = {}
    for projection in ASYNCHRONOUS:
        with database.connect_owner() as owner:
            check = Rebuild(owner, projection, decoder())
            check.begin(afresh=True)
            try:
                found |= check.compare(lambda _: None)
            finally:
                check.drop()
    return {table: rows for table, rows in found.items() if rows}
