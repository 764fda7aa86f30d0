"""The program's services of compose.yaml as ordinary processes: their very commands, with their very environment.

Only what a container gives is replaced: the hosts' names and ports, the folders /run/secrets and /tmp, and the address
to listen on.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.compose.files import ours, seconds, secrets_of
from tests.support.free_ports import free_ports

PORTS = {"auth": 5001, "license": 5002, "analytics": 5003, "admin": 5004}
ENDING_SECONDS = 60


class Stack:
    """All services that run our program. `secrets` is a folder with a file for each; `hosts` what replaces a host."""

    def __init__(self, folder: Path, secrets: Path, hosts: Mapping[str, str]) -> None:
        self._folder = folder
        self._secrets = secrets
        self._hosts = hosts
        self._services = ours()
        self._ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self._running: dict[str, Process] = {}
        for name in self._services:
            self._lay_out(name)

    async def __aenter__(self) -> Self:
        """Start everything once its turn has come, as `depends_on` says."""
        try:
            migrate = await self._start("migrate")
            async with asyncio.timeout(ENDING_SECONDS):
                assert await migrate.wait() == 0, self.printed("migrate")
            del self._running["migrate"]
            await asyncio.gather(*(self._start(name) for name in self._services if name != "migrate"))
        except BaseException:
            await self.kill()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.kill()

    @property
    def names(self) -> list[str]:
        """The services that go on running."""
        return [name for name in self._services if name != "migrate"]

    def base(self, service: str) -> str:
        return f"http://127.0.0.1:{self._ports[service]}"

    def printed(self, service: str) -> str:
        return (self._folder / service / "printed").read_text("utf-8")

    def secret(self, service: str, name: str) -> str:
        """Return a secret as the service finds it."""
        return (self._folder / service / "secrets" / name).read_text("utf-8").strip()

    def written(self, service: str) -> list[str]:
        """Return the files that a service has made in its container, but for its /tmp."""
        return [str(path) for path in (self._folder / service / "workdir").rglob("*")]

    async def is_healthy(self, service: str) -> bool:
        """Run a service's health check, once. One that takes too long has failed."""
        assert self._running[service].returncode is None, self.printed(service)
        check = self._services[service]["healthcheck"]
        assert check["test"][0] == "CMD"
        looking = await self._execute(service, check["test"][1:], self._folder / service / "looked")
        try:
            async with asyncio.timeout(seconds(check["timeout"])):
                return await looking.wait() == 0
        except TimeoutError:
            return False
        finally:
            if looking.returncode is None:
                looking.kill()
                await looking.wait()

    async def stop(self) -> dict[str, int]:
        """Send SIGTERM to all at once; return their exit codes. Fails where one takes longer than its grace period."""
        for process in self._running.values():
            process.terminate()
        for name, process in self._running.items():
            async with asyncio.timeout(seconds(self._services[name]["stop_grace_period"])):
                await process.wait()
        return {name: process.returncode or 0 for name, process in self._running.items()}

    async def kill(self) -> None:
        """Leave nothing running."""
        for process in self._running.values():
            if process.returncode is None:
                process.kill()
            await process.wait()

    def _lay_out(self, name: str) -> None:
        """Make a service's folders; its secrets are those that it was given, and no others."""
        for part in ("workdir", "tmp", "secrets"):
            (self._folder / name / part).mkdir(parents=True)
        for secret, target in secrets_of(self._services[name]).items():
            text = (self._secrets / secret).read_text("utf-8")
            for host, replacement in self._hosts.items():
                text = text.replace(host, replacement)
            (self._folder / name / "secrets" / Path(target).name).write_text(text)

    async def _start(self, name: str) -> Process:
        process = await self._execute(name, self._services[name]["command"], self._folder / name / "printed")
        self._running[name] = process
        return process

    async def _execute(self, name: str, command: list[str], output: Path) -> Process:
        replaced = [self._with_port(name, word) for word in command]
        program = shutil.which(replaced[0], path=_path())
        assert program is not None, f"{replaced[0]} is not installed beside {sys.executable}"
        with output.open("ab") as sink:
            return await asyncio.create_subprocess_exec(
                program,
                *replaced[1:],
                cwd=self._folder / name / "workdir",
                env=self._environ(name),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    def _environ(self, name: str) -> dict[str, str]:
        environ = {key: self._placed(name, str(value)) for key, value in self._services[name]["environment"].items()}
        if "HOST" in environ:
            assert environ["HOST"] == "0.0.0.0"
            environ["HOST"] = "127.0.0.1"
        ports = {f"{service.upper()}_PORT": str(port) for service, port in self._ports.items()}
        return {"PATH": _path(), "HOME": "/nonexistent", **environ, **ports}

    def _placed(self, name: str, value: str) -> str:
        """Return a path of the container as the one that stands for it here."""
        for inside, here in (("/run/secrets/", "secrets"), ("/tmp/", "tmp")):
            if value.startswith(inside):
                return str(self._folder / name / here / value.removeprefix(inside))
        return value

    def _with_port(self, name: str, word: str) -> str:
        return word.replace(str(PORTS[name]), str(self._ports[name])) if name in PORTS else word


def _path() -> str:
    return os.pathsep.join((str(Path(sys.executable).parent), "/usr/bin", "/bin"))
