"""Anomaly workers as processes, with small steps: `python -m tests.support.anomaly_process URL DATA_DIR N GATE`.

Each line on standard input forks one off, which takes N rows a step; its process id is answered. All that is slow to
load is loaded before. The file GATE says how many rows are passed at most: there they wait until it says more.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from psycopg import Connection

from cli.workers import _detection
from infra.postgres import Database
from projections.behaviour import CONSUMER
from tests.support.service import settings_for
from workers.anomaly import AnomalyWorker
from workers.feed import ClockFeed
from workers.turns import Turn

ROOT = Path(__file__).parents[2]


class AnomalyWorkers:
    """Starts workers over a database, within `with`; those that still run at its end are killed."""

    def __init__(self, database: Database, data_dir: Path, most_rows: int) -> None:
        self._folder = TemporaryDirectory(prefix="lizenzserver-anomaly-")
        self._gate = Path(self._folder.name) / "gate"
        self.let_pass(sys.maxsize)
        arguments = [database.url, str(data_dir), str(most_rows), str(self._gate)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.anomaly_process", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._running: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for pid in self._running:
            os.kill(pid, signal.SIGKILL)
        self._process.communicate(timeout=30)
        self._folder.cleanup()

    def let_pass(self, rows: int) -> None:
        """Have all wait where so many rows of both logs are passed, until this is called again.

        However long the test is held up, they do not get further meanwhile.
        """
        draft = self._gate.with_name("draft")
        draft.write_text(str(rows))
        draft.replace(self._gate)

    def start(self) -> int:
        """Start a worker; return its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        pid = int(self._process.stdout.readline())
        self._running.add(pid)
        return pid

    def kill(self, pid: int) -> None:
        """End a worker as a power cut would."""
        os.kill(pid, signal.SIGKILL)
        self._running.discard(pid)


def main() -> None:
    """Fork workers off until standard input ends."""
    url, data_dir, most_rows, gate = sys.argv[1:]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that are killed
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.close(sys.stdin.fileno())
            logging.basicConfig(level=logging.ERROR)
            asyncio.run(_work(Database(url, url), Path(data_dir), int(most_rows), Path(gate)))
            os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


class _Gated(AnomalyWorker):
    gate: Path

    def _work(self, connection: Connection[Any]) -> Turn:
        reached = self._last
        while reached is not None and reached.event_position + reached.usage_position >= int(self.gate.read_text()):
            time.sleep(0.005)
        return super()._work(connection)


async def _work(database: Database, data_dir: Path, most_rows: int, gate: Path) -> None:
    settings = settings_for(data_dir)
    with ExitStack() as held:
        parts = _detection(settings, database, _instance(database), held)._replace(most_rows=most_rows)
        connect = partial(database.connect_worker, CONSUMER)
        worker = _Gated(connect, parts, ClockFeed, pause_seconds=0.0)
        worker.gate = gate
        await worker.run()


def _instance(database: Database) -> str:
    with database.connect() as connection:
        row = connection.execute("SELECT key_fingerprint FROM service_identity").fetchone()
    assert row is not None
    return str(row["key_fingerprint"])


if __name__ == "__main__":
    main()
