"""Real server processes that a test starts, kills and stops, and clients that talk to them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import aiohttp

from infra.postgres import Database
from tests.support.client import Client, Secrets
from tests.support.cluster import Cluster
from tests.support.free_ports import free_ports

ROOT = Path(__file__).parents[2]


class ServerProcess:
    """All services on one port, in a process of its own. Started by the constructor, usable after `wait_ready`."""

    def __init__(self, database: Database, data_dir: Path, module: str = "server_process", **environ: str) -> None:
        (self.port,) = free_ports(1)
        self.base = f"http://127.0.0.1:{self.port}"
        self._log_path = data_dir / f"server-{self.port}.log"
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"tests.support.{module}", str(data_dir), str(self.port)],
                cwd=ROOT,
                env={**os.environ, "DATABASE_URL": database.url, **environ},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> Self:
        """Return once the port answers; fail with the log's end where it never will."""
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line == b"ready\n":
                return self
        raise AssertionError(f"the server ended: {self.log()[-2000:]}")

    def log(self) -> str:
        """Return what the process has logged: warnings and worse."""
        return self._log_path.read_text()

    def kill(self) -> None:
        """End the process as a power cut would."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop the process where it is."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ask the process to finish what is under way and end."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()


@dataclass(frozen=True)
class Pair:
    """Two API processes over one database, with the same keys."""

    database: Database
    data_dir: Path
    one: ServerProcess
    other: ServerProcess

    @asynccontextmanager
    async def clients(self, *processes: ServerProcess) -> AsyncIterator[list[Client]]:
        """Give a client of each process, all with one API key that has no limits."""
        async with AsyncExitStack() as stack:
            found = [await stack.enter_async_context(client_of(one)) for one in processes or (self.one, self.other)]
            api_key = (await found[0].new_api_key())["api_key"]
            for one in found:
                one.api_key = api_key
            yield found


@asynccontextmanager
async def client_of(process: ServerProcess) -> AsyncIterator[Client]:
    """Give a client of a process, without an API key as yet."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(30)) as session:
        yield Client(session, process.base, Secrets())


@contextmanager
def running_pair(cluster: Cluster, module: str = "server_process") -> Iterator[Pair]:
    """Run two processes over a new database."""
    database = cluster.new_database()
    with TemporaryDirectory(prefix="lizenzserver-pair-") as folder:
        data_dir = Path(folder)
        # The first makes the keys; the second finds them.
        one = ServerProcess(database, data_dir, module).wait_ready()
        other = ServerProcess(database, data_dir, module)
        try:
            yield Pair(database, data_dir, one, other.wait_ready())
        finally:
            one.stop()
            other.stop()
    cluster.drop(database)


async def gathered(*awaitables: object) -> list[object]:
    """Await all; give results and exceptions."""
    return await asyncio.gather(*awaitables, return_exceptions=True)  # type: ignore[call-overload,no-any-return]
