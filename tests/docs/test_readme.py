"""The tour in the README works as printed: the same commands, the same output but for ids and times."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.support.blocks import marked
from tests.support.client import eventually
from tests.support.free_ports import free_ports
from tests.support.service import PATIENT

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PORTS = {"AUTH_PORT": 5001, "LICENSE_PORT": 5002, "ANALYTICS_PORT": 5003, "ADMIN_PORT": 5004}
SERVE = "from cli.main import main; main()"
START_SECONDS = 60
STOP_SECONDS = 30

_CHANGING = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[0-9:.]+Z")


def printed_to(log: Path) -> str:
    return log.read_text("utf-8")


@asynccontextmanager
async def serving(folder: Path, ports: dict[str, int]) -> AsyncIterator[None]:
    """Run `lizenzserver serve` in a folder, with no setting but its ports, until every port is ready.

    One more sees to it that a validation is in the log once it is answered, however busy the machine is.
    """
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}
    environ = {**kept, "PYTHONPATH": str(ROOT), **{name: str(port) for name, port in ports.items()}}
    environ |= PATIENT
    with (folder / "serve.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SERVE, "serve", cwd=folder, env=environ, stdout=log, stderr=log
        )
    try:
        async with aiohttp.ClientSession() as session:
            await eventually(lambda: _all_ready(session, process, ports, folder / "serve.log"), START_SECONDS)
        yield
    finally:
        await _stop(process)


async def _all_ready(session: aiohttp.ClientSession, process: Process, ports: dict[str, int], log: Path) -> bool:
    assert process.returncode is None, printed_to(log)
    for port in ports.values():
        try:
            async with session.get(f"http://127.0.0.1:{port}/health/ready") as response:
                if response.status != 200:
                    return False
        except aiohttp.ClientError:
            return False
    return True


async def _stop(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise


async def test_the_tour_prints_what_the_readme_says(tmp_path: Path) -> None:
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    commands = marked(README, "tour")
    for name, documented in PORTS.items():
        commands = commands.replace(f"localhost:{documented}/", f"localhost:{ports[name]}/")
    async with serving(tmp_path, ports):
        shell = await asyncio.create_subprocess_exec("bash", "-c", commands, cwd=tmp_path, stdout=PIPE, stderr=PIPE)
        printed, complaints = await shell.communicate()
    assert complaints.decode() == ""
    assert _CHANGING.sub("…", printed.decode()) == _CHANGING.sub("…", marked(README, "tour-output"))


def test_the_tour_has_ten_lines() -> None:
    assert len(marked(README, "tour").splitlines()) == 10
