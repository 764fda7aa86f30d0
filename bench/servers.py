"""Servers under load: processes of their own on loopback, stopped by their process id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[1]
START_SECONDS = 120.0
STOP_SECONDS = 30.0
PORT = "{port}"
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class ServerFailed(Exception):
    """A server ended, or did not answer in time. The message holds the end of its log."""


class Process:
    """A Python program, running within `with`."""

    def __init__(self, name: str, arguments: Sequence[str], folder: Path, environ: Mapping[str, str]) -> None:
        self.name = name
        self._arguments = arguments
        self._folder = folder
        plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        self._environ = {**plain, "PYTHONPATH": str(ROOT), **environ}
        self._log = folder / f"{name.replace(' ', '-')}-{id(self)}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.start_seconds = 0.0

    def __enter__(self) -> Self:
        began = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments],
                cwd=self._folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._wait_ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.start_seconds = time.monotonic() - began
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        self.resume()
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait_ready(self) -> None:
        """Return once it does its work; by default that is at once."""

    @property
    def pid(self) -> int:
        """Return the process id."""
        assert self._process is not None
        return self._process.pid

    def pause(self) -> None:
        """Stop it where it is, so that it takes nothing from what is measured now."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._send(signal.SIGCONT)

    def cpu_seconds(self) -> float:
        """Return the processor time that it has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

    def resident_bytes(self) -> int:
        """Return the memory that it occupies."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _check_alive(self) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            raise ServerFailed(f"{self.name} ended: {self._tail()}")

    def _tail(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-2000:]


class Server(Process):
    """An HTTP server on a port of its own, named by PORT in its arguments; ready when the path `ready` answers 200."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        folder: Path,
        environ: Mapping[str, str],
        ready: str = "/health/live",
    ) -> None:
        self._ready = ready
        self.port = free_port()
        given = [argument.replace(PORT, str(self.port)) for argument in arguments]
        super().__init__(name, given, folder, {**environ, "SINGLE_PORT": str(self.port)})

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            self._check_alive()
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.name} does not answer: {self._tail()}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{self._ready}", timeout=5) as response:
                return bool(response.status == 200)  # noqa: PLR2004
        except (urllib.error.URLError, OSError):
            return False


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
