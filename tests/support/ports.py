"""The services in a process of their own, as attackers meet them: one port each, and one port for all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from api.server import SERVICES
from infra.postgres import Database
from tests.support.client import Secrets
from tests.support.free_ports import free_ports

ROOT = Path(__file__).parents[2]
NAMES = (*(service.name for service in SERVICES), "all")
STOP_SECONDS = 20


@dataclass(slots=True)
class Ports:
    """A running process. `ports` by service name, `all` for the merged one; `log` is what it printed."""

    database: Database
    folder: Path
    ports: dict[str, int]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    environ: dict[str, str] | None = None

    @classmethod
    def make(cls, database: Database, folder: Path, **environ: str) -> Self:
        """Prepare a process on free ports; `with` starts and stops it."""
        return cls(database, folder, ports_of_services(), folder / "log", environ=environ)

    def base(self, name: str = "all") -> str:
        """Return a service's base URL."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def printed(self) -> str:
        """Return everything that the process has printed so far."""
        return self.log.read_text(encoding="utf-8")

    def __enter__(self) -> Self:
        secrets = Secrets()
        environ = {
            **os.environ,
            "DATA_DIR": str(self.folder / "data"),
            "DATABASE_URL": self.database.url,
            "ADMIN_API_KEY": secrets.admin_api_key,
            "ADMIN_SECRET": secrets.admin_secret,
            "CLIENT_TOKEN": secrets.client_token,
            "ADMIN_TOKEN": secrets.admin_token,
            "TRUSTED_PROXIES": "127.0.0.0/8",
            "LOG_LEVEL": "warning",
            **(self.environ or {}),
        }
        command = [sys.executable, "-m", "tests.support.ports_entry", *map(str, self.ports.values())]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=log)
        assert self.process.stdout is not None
        if self.process.stdout.readline() != b"ready\n":
            self.__exit__()
            raise RuntimeError(f"the services did not start: {self.printed()}")
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process.stdout.close()


def ports_of_services() -> dict[str, int]:
    """Return a free port for each service."""
    return dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
