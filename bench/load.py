"""Load by wrk: what it sends, and what it found."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

SCRIPT = Path(__file__).with_name("load.lua")
DEVICES_A_RUN = 100_000_000
"""More than one run of wrk can send; devices of different runs have different numbers."""

_first_devices = count(DEVICES_A_RUN, DEVICES_A_RUN)


class MissingTool(Exception):
    """wrk is not installed. The message says how to get it."""


class WrongAnswers(Exception):
    """Requests were refused or broken that should have been served: the figure would mean nothing."""


@dataclass(frozen=True, slots=True)
class Requests:
    """What is sent: the requests of a file. See load.lua for the modes; `licences` is how many there are."""

    path: Path
    mode: Literal["each", "random", "new"] = "each"
    licences: int = 0

    def arguments(self) -> list[str]:
        """Return what load.lua is told; each call begins with other devices."""
        first = str(next(_first_devices))
        more = [] if self.mode == "each" else [str(self.licences), first]
        return [str(self.path), self.mode, first, *more]


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk found. `per_second` counts 2xx only, latencies are in milliseconds, `cores` is what wrk itself used."""

    per_second: float
    p50: float
    p99: float
    mean: float
    good: int
    refused: int
    cores: float
    load_average: float


def raw_request(method: str, path: str, headers: Mapping[str, str], body: str = "") -> str:
    """Return a request as it goes over the wire. A body with `%012d` gets its length as if filled in."""
    length = len(body.replace("%012d", "0" * 12).encode())
    sent = {"Host": "bench", **headers}
    if body:
        sent |= {"Content-Type": "application/json", "Content-Length": str(length)}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    return "\r\n".join(lines) + "\r\n\r\n" + body


def write_requests(path: Path, requests: Iterable[str]) -> Path:
    """Write requests as load.lua reads them."""
    path.write_text("\0".join(requests), encoding="utf-8")
    return path


def check_wrk() -> None:
    """Raise MissingTool where wrk is not on the path."""
    if shutil.which("wrk") is None:
        raise MissingTool("wrk is not installed: `apt install wrk` on Debian and Ubuntu, `brew install wrk` on macOS")


def warm_up(port: int, requests: Requests, connections: int, seconds: int) -> int:
    """Load a server on this machine for some seconds; return how many requests were answered, whatever with."""
    found, _ = _wrk(port, requests, connections, seconds)
    return int(found["requests"])


def run_wrk(port: int, requests: Requests, connections: int, seconds: int, *, refusals: bool = False) -> Load:
    """Load a server on this machine for some seconds. Raises WrongAnswers where not all was 2xx, unless it may."""
    found, cpu_seconds = _wrk(port, requests, connections, seconds)
    good = found["requests"] - found["refused"]
    if found["broken"] or (found["refused"] and not refusals) or not good:
        raise WrongAnswers(f"{found['refused']} refused, {found['broken']} broken of {found['requests']} requests")
    return Load(
        per_second=good / found["seconds"],
        p50=found["p50"],
        p99=found["p99"],
        mean=found["mean"],
        good=good,
        refused=found["refused"],
        cores=cpu_seconds / found["seconds"],
        load_average=os.getloadavg()[0],
    )


def _wrk(port: int, requests: Requests, connections: int, seconds: int) -> tuple[dict[str, Any], float]:
    """Run wrk; return what load.lua printed, and the processor time that wrk used."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [
        *("wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"),
        *("--timeout", "30s", "--script", str(SCRIPT), f"http://127.0.0.1:{port}/", "--", *requests.arguments()),
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    printed = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode != 0 or not printed:
        raise WrongAnswers(f"wrk failed: {(done.stdout + done.stderr)[-500:]}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(printed[0].removeprefix("RESULT ")), used
