"""A side of a comparison by load: which server gets which requests, over how many connections."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from typing import Any, Literal, TypeAlias

from bench.figures import Comparison, Goal
from bench.lab import Lab, Sizes
from bench.load import Load, Requests, WrongAnswers, run_wrk, warm_up
from bench.servers import Process, Server

Latency: TypeAlias = Literal["p50", "p99", "mean"]


@dataclass(frozen=True, slots=True)
class Served:
    """What a load found, and how many cores the server, or all servers together, used meanwhile."""

    load: Load
    cores: float

    def __str__(self) -> str:
        return f"{self.load.per_second:,.0f}/s, p50 {self.load.p50:.2f} ms, p99 {self.load.p99:.2f} ms"


@dataclass(frozen=True, slots=True)
class Side:
    """Requests to a server, or to several that share the connections: `others`.

    `helpers` are processes beside it; in `only_now` all of these run in their turn alone.
    """

    server: Server
    requests: Requests
    connections: int
    helpers: Sequence[Process] = ()
    only_now: bool = False
    refusals: bool = False
    others: Sequence[Server] = ()

    def run(self, sizes: Sizes) -> Served:
        """Warm up, then measure."""
        everybody = [self.server, *self.helpers] if self.only_now else []
        for process in everybody:
            process.resume()
        try:
            port, *others = (server.port for server in self._servers)
            warm_up(port, self.requests, self.connections, sizes.warm_up, *others)
            before = self._cpu_seconds()
            load = run_wrk(port, self.requests, self.connections, sizes.seconds, *others, refusals=self.refusals)
            return Served(load, (self._cpu_seconds() - before) / sizes.seconds)
        finally:
            for process in everybody:
                process.pause()

    @property
    def _servers(self) -> list[Server]:
        return [self.server, *self.others]

    def _cpu_seconds(self) -> float:
        return sum(server.cpu_seconds() for server in self._servers)


def measured(lab: Lab, sides: Mapping[str, Side]) -> dict[str, list[Served]]:
    """Measure sides in turns."""

    def of(name: str, side: Side) -> tuple[str, Callable[[], Served]]:
        return name, lambda: side.run(lab.sizes)

    return lab.alternate(dict(starmap(of, sides.items())))


def send_each(lab: Lab, server: Server, requests: Requests, count: int, connections: int) -> None:
    """Send each of so many requests of a file at least once, before anything is measured. Raises WrongAnswers."""
    done, seconds = 0, lab.sizes.warm_up
    # What wrk only looks at, and what is under way when it stops, may be left out: the next run begins before it.
    while done < count + 2 * connections:
        answered = warm_up(server.port, replace(requests, first=max(0, done - connections)), connections, seconds)
        if answered <= 2 * connections:
            raise WrongAnswers(f"{server.name} answered {answered} requests in {seconds} s")
        done += answered - connections - 1
        lab.say(f"sent once: {min(done, count):,} of {count:,}")


def latencies(served: Sequence[Served], latency: Latency) -> tuple[float, ...]:
    """Return a latency of each round, in milliseconds."""
    return tuple(float(getattr(one.load, latency)) for one in served)


def rates(served: Sequence[Served]) -> tuple[float, ...]:
    """Return the 2xx a second of each round."""
    return tuple(one.load.per_second for one in served)


def by_rate(
    name: str, served: Mapping[str, Sequence[Served]], ours: str, base: str, goal: Goal | None = None
) -> Comparison:
    """Compare two sides by requests a second."""
    return Comparison(
        name=name, unit="/s", ours=rates(served[ours]), baseline=base, base=rates(served[base]), goal=goal
    )


def by_latency(
    latency: Latency, served: Mapping[str, Sequence[Served]], ours: str, base: str, goal: Goal | None = None
) -> Comparison:
    """Compare two sides by a latency, in milliseconds."""
    return Comparison(
        name=latency,
        unit="ms",
        ours=latencies(served[ours], latency),
        baseline=base,
        base=latencies(served[base], latency),
        goal=goal,
    )


def load_note(served: Mapping[str, Sequence[Served]]) -> str:
    """Say what wrk and the servers used of the machine, and how loaded it was."""
    parts = [
        f"{name}: server {_mean(one.cores for one in all_)}, wrk {_mean(one.load.cores for one in all_)},"
        f" load average {_mean(one.load.load_average for one in all_)}"
        for name, all_ in served.items()
    ]
    return "cores used: " + "; ".join(parts)


def _mean(values: Any) -> str:
    found = list(values)
    return f"{sum(found) / len(found):.2f}"


def ask(server: Server, path: str, headers: Mapping[str, str], body: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """POST once and return the answer's body and headers, so that what is measured is known to be right.

    Raises urllib's HTTPError, with the answer's text in its message, for anything but 2xx.
    """
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **headers},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - as above
            return json.loads(response.read()), dict(response.headers)
    except urllib.error.HTTPError as error:
        error.msg = f"{error.msg}: {error.read()[:300]!r}"
        raise
