"""Load by wrk: what it sends, and what it found."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
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
    """What is sent: the requests of a file. See load.lua for the modes.

    `licences` is how many there are, from number `lowest` on; `hot` is how many of them most requests are for, 0 for no
    difference. `first` says where in the file to begin; by default, each run begins somewhere else.
    """

    path: Path
    mode: Literal["each", "random", "new", "pair"] = "each"
    licences: int = 0
    lowest: int = 0
    hot: int = 0
    first: int | None = None

    def arguments(self) -> list[str]:
        """Return what load.lua is told; each call begins with other devices."""
        first = str(next(_first_devices) if self.first is None else self.first)
        more = [] if self.mode == "each" else [str(self.licences), first, str(self.lowest), str(self.hot)]
        return [str(self.path), self.mode, first, *more]


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk found. `per_second` counts 2xx only, latencies are in milliseconds, `cores` is what wrk itself used.

    Of several servers at once, p50 and mean are the means of theirs by requests, and p99 is the highest of theirs.
    """

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


def warm_up(port: int, requests: Requests, connections: int, seconds: int, *others: int) -> int:
    """Load a server on this machine for some seconds; return how many requests were answered, whatever with.

    `others` are ports of servers that share the connections.
    """
    found, _ = _wrk((port, *others), requests, connections, seconds)
    return sum(int(one["requests"]) for one in found)


def run_wrk(
    port: int, requests: Requests, connections: int, seconds: int, *others: int, refusals: bool = False
) -> Load:
    """Load a server on this machine for some seconds. Raises WrongAnswers where not all was 2xx, unless it may.

    `others` are ports of servers that share the connections, each with a wrk of its own at the same time.
    """
    found, cpu_seconds = _wrk((port, *others), requests, connections, seconds)
    return _together(found, cpu_seconds, refusals=refusals)


def _together(found: Sequence[dict[str, Any]], cpu_seconds: float, *, refusals: bool) -> Load:
    total = sum(one["requests"] for one in found)
    refused = sum(one["refused"] for one in found)
    broken = sum(one["broken"] for one in found)
    good = total - refused
    if broken or (refused and not refusals) or not (good or refusals):
        raise WrongAnswers(f"{refused} refused, {broken} broken of {total} requests")

    def mean(name: str) -> float:
        return float(sum(one[name] * one["requests"] for one in found) / total)

    return Load(
        per_second=sum((one["requests"] - one["refused"]) / one["seconds"] for one in found),
        p50=mean("p50"),
        p99=max(one["p99"] for one in found),
        mean=mean("mean"),
        good=good,
        refused=refused,
        cores=cpu_seconds / max(one["seconds"] for one in found),
        load_average=os.getloadavg()[0],
    )


def _wrk(
    ports: Sequence[int], requests: Requests, connections: int, seconds: int
) -> tuple[list[dict[str, Any]], float]:
    """Run a wrk for each port; return what load.lua printed for each, and the processor time that they used."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = [_started(port, requests, connections // len(ports), seconds) for port in ports]
    ended = [(one, *one.communicate()) for one in running]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return [_printed(one.returncode, out, error) for one, out, error in ended], used


def _started(port: int, requests: Requests, connections: int, seconds: int) -> subprocess.Popen[str]:
    command = [
        *("wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"),
        *("--timeout", "30s", "--script", str(SCRIPT), f"http://127.0.0.1:{port}/", "--", *requests.arguments()),
    ]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _printed(code: int, out: str, error: str) -> dict[str, Any]:
    printed = [line for line in out.splitlines() if line.startswith("RESULT ")]
    if code != 0 or not printed:
        raise WrongAnswers(f"wrk failed: {(out + error)[-500:]}")
    found: dict[str, Any] = json.loads(printed[0].removeprefix("RESULT "))
    return found
