"""A session in a process of its own that holds an advisory lock in a transaction, and freezes there."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from infra.postgres import Database

_PROGRAM = """
import sys, psycopg
connection = psycopg.connect(sys.argv[1])
connection.execute(f"SELECT pg_advisory_xact_lock({sys.argv[2]})")
connection.execute("CREATE TEMP TABLE scratch (line text)")
with connection.cursor().copy("COPY scratch FROM STDIN") as copy:
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def frozen_lock_holder(database: Database, key: int) -> Iterator[subprocess.Popen[str]]:
    """Hold the lock in the middle of a COPY, which no timeout of the server's ends, with the client stopped."""
    command = [sys.executable, "-c", _PROGRAM, database.url, str(key)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            process.send_signal(signal.SIGSTOP)
            yield process
        finally:
            process.kill()
