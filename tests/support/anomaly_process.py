"""Anomaly workers as processes, with small steps: `python -m tests.support.anomaly_process DATABASE_URL DATA_DIR N`.

Each line on standard input forks one off, which takes N rows a step; its process id is answered. All that is slow to
load is loaded before.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.workers import _detection
from infra.postgres import Database
from projections.behaviour import CONSUMER
from tests.support.service import settings_for
from workers.anomaly import AnomalyWorker
from workers.feed import ClockFeed

ROOT = Path(__file__).parents[2]


class AnomalyWorkers:
    """Starts workers over a database, within `with`; those that still run at its end are killed."""

    def __init__(self, database: Database, data_dir: Path, most_rows: int) -> None:
        command = [sys.executable, "-m", "tests.support.anomaly_process", database.url, str(data_dir), str(most_rows)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._running: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for pid in self._running:
            os.kill(pid, signal.SIGKILL)
        self._process.communicate(timeout=30)

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
    url, data_dir, most_rows = sys.argv[1:]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that are killed
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.close(sys.stdin.fileno())
            logging.basicConfig(level=logging.ERROR)
            asyncio.run(_work(Database(url, url), Path(data_dir), int(most_rows)))
            os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


async def _work(database: Database, data_dir: Path, most_rows: int) -> None:
    settings = settings_for(data_dir)
    with ExitStack() as held:
        parts = _detection(settings, database, _instance(database), held)._replace(most_rows=most_rows)
        connect = partial(database.connect_worker, CONSUMER)
        await AnomalyWorker(connect, parts, ClockFeed, pause_seconds=0.0).run()


def _instance(database: Database) -> str:
    with database.connect() as connection:
        row = connection.execute("SELECT key_fingerprint FROM service_identity").fetchone()
    assert row is not None
    return str(row["key_fingerprint"])


if __name__ == "__main__":
    main()
