"""What wrk sends and what is made of its answers: with a server that notes what comes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bench import load
from bench.load import Requests, WrongAnswers, raw_request, run_wrk, write_requests

BODY = '{"licence": "%012d", "device": "%012d"}'


class Noting(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.came: list[tuple[str, int, int]] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Noting

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.came.append((self.path, int(body["licence"]), int(body["device"])))
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def noting() -> Iterator[Noting]:
    with Noting() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def requests(folder: Path, *paths: str) -> Path:
    return write_requests(folder / "requests", [raw_request("POST", path, {}, BODY) for path in paths])


def run_until(enough: int, asked: Requests, connections: int, *servers: Noting) -> int:
    """Run wrk for a second, and anew where the machine stood still and little came; return how much was answered."""
    port, *others = (server.server_port for server in servers)
    for _ in range(20):
        for server in servers:
            server.came.clear()
        good = run_wrk(port, asked, connections, 1, *others).good
        if good >= enough:
            return good
    raise AssertionError("hardly anything is answered")


def test_pairs_are_whole_and_for_licences_of_the_range(tmp_path: Path) -> None:
    asked = Requests(requests(tmp_path, "/open", "/close"), "pair", licences=5, lowest=40)
    with noting() as server:
        run_until(100, asked, 1, server)
    came = server.came
    for opened, closed in zip(came[::2], came[1::2], strict=False):
        assert (opened[0], closed[0]) == ("/open", "/close")
        assert opened[1:] == closed[1:]
    assert {licence for _, licence, _ in came} == set(range(40, 45))
    devices = [device for path, _, device in came if path == "/open"]
    assert len(set(devices)) == len(devices)


def test_most_requests_are_for_the_hot_licences_and_servers_share_the_connections(tmp_path: Path) -> None:
    asked = Requests(requests(tmp_path, "/validate"), "random", licences=1_000_000, hot=10)
    with noting() as first, noting() as second:
        good = run_until(400, asked, 2, first, second)
    for came in (first.came, second.came):
        hot = sum(licence < 10 for _, licence, _ in came)
        assert 0.75 < hot / len(came) < 0.99
    # What was under way when wrk stopped has come, and was not counted.
    assert 0 <= len(first.came) + len(second.came) - good <= 2
    assert first.came[:20] != second.came[:20]


def printed(requests: int, refused: int = 0, broken: int = 0, p50: float = 1.0, p99: float = 2.0) -> dict[str, Any]:
    figures = {"requests": requests, "seconds": 2.0, "refused": refused, "broken": broken}
    return {**figures, "p50": p50, "p99": p99, "mean": p50}


def test_what_several_servers_answered_counts_together() -> None:
    both = load._together([printed(300, p50=1.0, p99=9.0), printed(100, p50=5.0, p99=6.0)], 1.0, refusals=False)
    assert (both.good, both.per_second) == (400, 200.0)
    assert (both.p50, both.p99) == (2.0, 9.0)
    assert both.cores == 0.5


def test_refusals_count_for_nothing_where_they_may_be() -> None:
    some = load._together([printed(300, refused=100), printed(100, refused=100)], 1.0, refusals=True)
    assert (some.good, some.refused, some.per_second) == (200, 200, 100.0)
    for wrong, refusals in ((printed(300, refused=1), False), (printed(300, broken=1), True), (printed(0), False)):
        with pytest.raises(WrongAnswers):
            load._together([wrong], 1.0, refusals=refusals)
