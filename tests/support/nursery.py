"""Processes of the program that start at once, since they are forked off one that has loaded it.

Each is a process of its own: with its own connections, settings and log, killed and asked to end like any other, or
where it is at a point that a test names.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from infra.postgres import Database
from tests.support.client import Client, Secrets
from tests.support.free_ports import free_ports
from tests.support.kill_points import said_at

ROOT = Path(__file__).parents[2]
SECONDS = 30.0
"""More than any start or stop takes on a busy machine."""
TOO_SLOW = "the database can't serve: couldn't get a connection"


class Child:
    """A process. Usable within `with`, at whose end it is killed where it still runs."""

    def __init__(self, nursery: Nursery, pid: int, log: Path) -> None:
        self._nursery = nursery
        self._log = log
        self.pid = pid
        self.code: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    def send(self, number: signal.Signals) -> None:
        """Send a signal; the process id is not given to another process before the end was noticed."""
        if self.has_ended():
            return
        os.kill(self.pid, number)

    def has_ended(self) -> bool:
        """Tell whether it has ended; `code` is its exit code then, or the negative signal."""
        if self.code is None:
            self.code = self._nursery.ask({"poll": self.pid})
        return self.code is not None

    def wait(self, seconds: float = SECONDS) -> int:
        """Wait for its end; return its exit code, or the negative signal. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while not self.has_ended():
            if time.monotonic() > deadline:
                raise TimeoutError(f"it has not ended: {self.log()[-2000:]}")
            time.sleep(0.01)
        assert self.code is not None
        return self.code

    def kill(self) -> None:
        """End it as a power cut would."""
        self.send(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """Ask it to end; return its exit code."""
        self.send(signal.SIGTERM)
        return self.wait()

    def log(self) -> str:
        """Return all that it has printed."""
        return self._log.read_text()

    def ended_at(self, point: str, seconds: float = SECONDS) -> bool:
        """Wait for its end; tell whether it was at a kill point."""
        return self.wait(seconds) == -signal.SIGKILL and said_at(point) in self.log()


class Server(Child):
    """All services on one port, with the workers; ready once it was made."""

    port = 0

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def complaints(self) -> list[str]:
        """Return what it has logged, warnings and worse.

        Not that requests waited for a connection in vain, who were told 503: they do where the machine stands still.
        """
        return [line for line in self.log().splitlines() if line != "ready" and TOO_SLOW not in line]

    @asynccontextmanager
    async def client(self, api_key: str = "") -> AsyncIterator[Client]:
        """Give a client, with this API key."""
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(30)) as session:
            client = Client(session, self.base, Secrets())
            client.api_key = api_key
            yield client


class Nursery:
    """Forks processes off, within `with`; those that still run at its end are killed. `folder` is for their logs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count(1)
        self._asking = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.nursery_process"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate(timeout=SECONDS)

    def run(self, database: Database, data_dir: Path, *arguments: str, **environ: str) -> Child:
        """Run `lizenzserver` with these arguments. KILL_AT names the point at which it ends, KILL_PASS which time.

        FAIL_AT and FAIL_PASSES: where it fails, and how often. BATCH: how many rows a rebuild folds at once.
        """
        return Child(self, *self._start("cli", arguments, _environment(database, data_dir, environ)))

    def serve(self, database: Database, data_dir: Path, **environ: str) -> Server:
        """Run all services and workers on one port, and return when it answers. The settings are the environment's."""
        (port,) = free_ports(1)
        started = self._start("serve", [str(port)], _environment(database, data_dir, environ))
        server = Server(self, *started)
        server.port = port
        deadline = time.monotonic() + SECONDS
        while "ready\n" not in server.log():
            assert not server.has_ended(), server.log()
            assert time.monotonic() < deadline, server.log()
            time.sleep(0.01)
        return server

    def ask(self, request: dict[str, Any]) -> Any:
        """Have something done; return the answer."""
        with self._asking:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(request) + "\n")
            return json.loads(self._process.stdout.readline())

    def _start(self, program: str, arguments: Any, environ: dict[str, str]) -> tuple[int, Path]:
        log = self._folder / f"{program}-{next(self._numbers)}.log"
        log.touch()
        request = {"program": program, "arguments": list(arguments), "environ": environ, "log": str(log)}
        return self.ask({"start": request}), log


def _environment(database: Database, data_dir: Path, more: dict[str, str]) -> dict[str, str]:
    secrets = Secrets()
    plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {
        **plain,
        "DATA_DIR": str(data_dir),
        "DATABASE_URL": database.url,
        "DATABASE_OWNER_URL": database.owner_url,
        "ADMIN_API_KEY": secrets.admin_api_key,
        "ADMIN_SECRET": secrets.admin_secret,
        "CLIENT_TOKEN": secrets.client_token,
        "ADMIN_TOKEN": secrets.admin_token,
        "TRUSTED_PROXIES": "127.0.0.0/8",
        "LOG_LEVEL": "warning",
        **more,
    }
