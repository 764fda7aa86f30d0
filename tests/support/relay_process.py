"""A relay as a process of its own: `python -m tests.support.relay_process DATABASE_URL AMQP_URL INSTANCE`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from commands.event_mapper import decoder
from infra.postgres import Database
from workers.relay import Relay

ROOT = Path(__file__).parents[2]


@contextmanager
def relay_process(database: Database, amqp_url: str, instance: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a relay, and end it at the end, however it is then."""
    command = [sys.executable, "-m", "tests.support.relay_process", database.url, amqp_url, instance]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ}, stdin=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


def main() -> None:
    """Relay until killed."""
    url, amqp_url, instance = sys.argv[1:]
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(Relay(Database(url, url).connect_async, amqp_url, decoder(), instance).run())


if __name__ == "__main__":
    main()
