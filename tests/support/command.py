"""`lizenzserver` as a process: started as a person starts it, with a data folder and ports of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from tests.support.ports import ports_of_services

ROOT = Path(__file__).parents[2]
SECONDS = 30.0
"""More than any start or stop takes on a busy machine."""


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    """Return an environment with free ports and without settings of whoever runs the tests."""
    ports = {f"{name.upper()}_PORT": str(port) for name, port in ports_of_services().items() if name != "all"}
    plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**plain, "PYTHONPATH": str(ROOT), "DATA_DIR": str(data_dir), **ports, **more}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-c", "from cli.main import main; main()", *arguments]


def run(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=environ["DATA_DIR"].rpartition("/")[0],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


class Serving:
    """A `lizenzserver serve` that is ready; killed at the end of the block where it still runs."""

    def __init__(self, environ: dict[str, str], *arguments: str) -> None:
        self.environ = environ
        self.printed = ""
        self._log = Path(f"{environ['DATA_DIR']}.{id(self)}.log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command("serve", *arguments),
                cwd=environ["DATA_DIR"].rpartition("/")[0],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.printed += line
            if "Ctrl-C stops it." in line:
                return self
        self.__exit__(None, None, None)
        raise AssertionError(f"serve ended: {self._log.read_text()}")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.environ[f'{service.upper()}_PORT']}"

    def get(self, service: str, path: str) -> requests.Response:
        return requests.get(self.url(service) + path, timeout=SECONDS)

    def end(self, number: signal.Signals, repeatedly: signal.Signals | None = None) -> int:
        """Send a signal, and perhaps another again and again until the process has ended; return the exit code."""
        self._process.send_signal(number)
        while repeatedly is not None and self._process.poll() is None:
            self._process.send_signal(repeatedly)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.005)
        return self._process.wait(SECONDS)


def postgres_of(data_dir: Path) -> list[int]:
    """Return the processes that are a PostgreSQL of this data folder."""
    cluster = os.fsencode(data_dir / "postgres")
    found: list[int] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                if cluster in (folder / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found
