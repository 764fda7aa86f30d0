"""The whole service as an operator runs it in parts: API processes, workers, PostgreSQL, RabbitMQ, a queue's reader.

Every part has a name, and can be killed, frozen, thawed and started again by it; the connections to PostgreSQL and
RabbitMQ lead through proxies, and can be cut, held up or lost.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit, urlunsplit

from psycopg.conninfo import conninfo_to_dict

from infra.notary_key import NotaryKey
from infra.settings import load_settings
from tests.support.client import Secrets
from tests.support.cluster import Cluster
from tests.support.command import ROOT, command
from tests.support.free_ports import free_ports
from tests.support.postgres_faults import postmaster
from tests.support.process_tree import freeze_tree, kill_tree, process_tree, thaw_tree
from tests.support.rabbit import Rabbit
from tests.support.signed_log import Signed
from tests.support.socket_proxy import SOCKET_NAME
from workers.broker import Broker

WORKERS = ("relay", "projector", "anomaly", "notary")
QUEUE = "analyst.all"
CHECKPOINTS = "checkpoints.txt"
READY_SECONDS = 60.0
END_SECONDS = 30.0


class Part:
    """One process, started again and again with the same arguments. Its log has all that it ever printed."""

    def __init__(self, name: str, arguments: list[str], environ: dict[str, str], folder: Path) -> None:
        self.name = name
        self.log_path = folder / f"{name}.log"
        self._arguments = arguments
        self._environ = environ
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments,
                cwd=self._folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to end; return its exit code."""
        return self._end(signal.SIGTERM)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            return self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(END_SECONDS)
            raise


class Proxies:
    """The process of `proxy_process`."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.proxy_process", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._wait()

    def do(self, what: str, name: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what} {name}\n".encode())
        self._process.stdin.flush()
        self._wait()

    def end(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.kill()
        self._process.wait(END_SECONDS)

    def _wait(self) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"done\n":
            raise AssertionError("the proxies have ended")


class Plant:
    """Usable within `with`. `database` is the tests' own way to PostgreSQL, which no proxy disturbs.

    Parts are named `api-0` …, `relay`, `projector`, `anomaly`, `notary`, `reader`, `postgres` and `rabbit`.
    """

    def __init__(self, apis: int = 2) -> None:
        self.apis = tuple(f"api-{number}" for number in range(apis))
        self.kills: dict[str, int] = {}
        self.parts: dict[str, Part] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(TemporaryDirectory(prefix="lizenzserver-plant-")))
            self._cluster = stack.enter_context(Cluster())
            self.database = self._cluster.new_database()
            self.rabbit = stack.enter_context(Rabbit())
            self._make_proxies(stack)
            self._make_parts()
            stack.callback(self._end_parts)
            self._make_queue()
            # The first makes the keys, the others find them.
            self.start(self.apis[0])
            self.wait_ready(self.apis[0])
            for name in (*self.apis[1:], *WORKERS, "reader"):
                self.start(name)
            for name in self.apis[1:]:
                self.wait_ready(name)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(AssertionError):
            thaw_tree(postmaster(self._cluster))
        with suppress(ProcessLookupError, AssertionError):
            self.rabbit.thaw()
        self._stack.close()

    def base(self, name: str) -> str:
        """Return the URL of an API process."""
        return f"http://127.0.0.1:{self._ports[name]}"

    def kill(self, name: str) -> None:
        """End a part as a power cut would."""
        self.kills[name] = self.kills.get(name, 0) + 1
        if name == "postgres":
            kill_tree(postmaster(self._cluster))
        elif name == "rabbit":
            self.rabbit.kill()
        else:
            self.parts[name].kill()

    def start(self, name: str) -> None:
        """Start a part, also again; PostgreSQL and RabbitMQ take connections on return."""
        if name == "postgres":
            self._cluster.server.start()
        elif name == "rabbit":
            self.rabbit.start()
        else:
            self.parts[name].start()

    def stop(self, name: str) -> None:
        """Ask a part to end, and wait for it. PostgreSQL is told to do so at once (immediate)."""
        self.kills[name] = self.kills.get(name, 0) + 1
        if name == "postgres":
            assert self._cluster.server._ended_by(signal.SIGQUIT, END_SECONDS)
            return
        code = self.parts[name].stop()
        if code != 0:
            raise AssertionError(f"{name} ended with {code}: {self.log(name)}")

    def freeze(self, name: str) -> None:
        """Stop a part where it is; its connections stay open."""
        if name == "postgres":
            freeze_tree(postmaster(self._cluster))
        elif name == "rabbit":
            self.rabbit.freeze()
        else:
            self.parts[name].freeze()

    def thaw(self, name: str) -> None:
        """Let it go on."""
        if name == "postgres":
            thaw_tree(postmaster(self._cluster))
        elif name == "rabbit":
            self.rabbit.thaw()
        else:
            self.parts[name].thaw()

    def disturb(self, what: str, name: str) -> None:
        """Cut, hole, hold or open the connections to `postgres` or `rabbit`."""
        self._proxies.do(what, name)

    def wait_ready(self, name: str, seconds: float = READY_SECONDS) -> None:
        """Return once an API process says that it is ready."""
        deadline = time.monotonic() + seconds
        while not self.is_ready(name):
            if self.parts[name].has_ended():
                raise AssertionError(f"{name} has ended: {self.log(name)}")
            if time.monotonic() > deadline:
                raise AssertionError(f"{name} is not ready after {seconds} s: {self.health(name)}\n{self.log(name)}")
            time.sleep(0.02)

    def is_ready(self, name: str) -> bool:
        """Ask an API process whether it is ready."""
        with suppress(OSError), urllib.request.urlopen(f"{self.base(name)}/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    def health(self, name: str) -> str:
        """Return what an API process says of its readiness."""
        try:
            with urllib.request.urlopen(f"{self.base(name)}/health/ready", timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return str(error.read().decode())
        except OSError as error:
            return repr(error)

    def log(self, name: str) -> str:
        """Return the end of a part's log."""
        return self.parts[name].log_path.read_text(errors="replace")[-3000:]

    def ended(self) -> list[str]:
        """Return the parts that have ended by themselves."""
        return [name for name, part in self.parts.items() if part.has_ended()]

    def errors(self) -> Counter[str]:
        """Count what the service's processes have logged as errors, by what they say."""
        found: Counter[str] = Counter()
        for part in self.parts.values():
            for line in part.log_path.read_text(errors="replace").splitlines():
                if '"level":"error"' in line.replace(" ", "") or "Traceback" in line:
                    found[_event_of(line)] += 1
        return found

    def memory(self) -> dict[str, int]:
        """Return for each part how many kilobytes of its own its processes hold."""
        found = {name: _own_memory([part.pid]) for name, part in self.parts.items()}
        server = self._cluster.server._postmaster()
        found["postgres"] = _own_memory([] if server is None else process_tree(server))
        found["rabbit"] = _own_memory(self._rabbit_processes())
        return found

    def read_by(self) -> Path:
        """Return what the queue's reader has stored."""
        return self.folder / "reader.sqlite3"

    def signed(self) -> Signed:
        """Return what the notary has sent away, by the key that it signs with."""
        settings = load_settings({"DATA_DIR": str(self.folder / "data")}, None)
        return Signed(self.folder / CHECKPOINTS, NotaryKey.open(settings, "").verifier.public)

    def verify(self) -> None:
        """Have the command line compare the log with all that the notary has sent away. Raises AssertionError."""
        arguments = command("audit", "verify", "--checkpoint", str(self.folder / CHECKPOINTS))
        done = subprocess.run(
            arguments, cwd=self.folder, env=self._environ, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise AssertionError(done.stdout + done.stderr)

    def _make_proxies(self, stack: ExitStack) -> None:
        self._host = self.rabbit.new_host()
        amqp = urlsplit(self._host.url)
        host, dbname = (str(conninfo_to_dict(self.database.url)[name]) for name in ("host", "dbname"))
        sockets = self.folder / "socket"
        sockets.mkdir()
        port, *ports = free_ports(1 + len(self.apis))
        self._ports = dict(zip(self.apis, ports, strict=True))
        self._proxies = Proxies(
            *("postgres", str(sockets / SOCKET_NAME), f"{host}/{SOCKET_NAME}"), *("rabbit", str(port), str(amqp.port))
        )
        stack.callback(self._proxies.end)
        self._database_url = f"postgresql:///{dbname}?host={quote(str(sockets), safe='')}&port=5432&user=postgres"
        self._amqp_url = urlunsplit(amqp._replace(netloc=f"{amqp.username}:{amqp.password}@127.0.0.1:{port}"))

    def _make_parts(self) -> None:
        data_dir = self.folder / "data"
        data_dir.mkdir()
        secrets = Secrets()
        plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        self._environ = environ = {
            **plain,
            "PYTHONPATH": str(ROOT),
            "DATA_DIR": str(data_dir),
            "DATABASE_URL": self._database_url,
            "AMQP_URL": self._amqp_url,
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "warning",
            "TRUSTED_PROXIES": "127.0.0.0/8",
            "ADMIN_API_KEY": secrets.admin_api_key,
            "ADMIN_SECRET": secrets.admin_secret,
            "CLIENT_TOKEN": secrets.client_token,
            "ADMIN_TOKEN": secrets.admin_token,
            "AUDIT_PUSH_FILE": str(self.folder / CHECKPOINTS),
        }
        serve = command("serve", "--single-port", "--no-workers")
        for name in self.apis:
            self._add(name, serve, {**environ, "SINGLE_PORT": str(self._ports[name])})
        for name in WORKERS:
            self._add(name, command("work", name), environ)
        reader = [sys.executable, "-m", "tests.support.queue_consumer", self._amqp_url, QUEUE, str(self.read_by())]
        self._add("reader", reader, environ)

    def _add(self, name: str, arguments: list[str], environ: dict[str, str]) -> None:
        self.parts[name] = Part(name, arguments, environ, self.folder)

    def _make_queue(self) -> None:
        """Make the exchange and the reader's queue before anything is published."""

        async def declare() -> None:
            await (await Broker.connect(self._host.url, "test")).close()

        asyncio.run(declare())
        self._host.new_queue(QUEUE)

    def _end_parts(self) -> None:
        for part in self.parts.values():
            part.kill()

    def _rabbit_processes(self) -> list[int]:
        script = self.rabbit._script
        return [] if script is None else process_tree(script.pid)


def _event_of(line: str) -> str:
    try:
        return str(json.loads(line)["event"])
    except (ValueError, KeyError, TypeError):
        return line[:200]


def _own_memory(pids: list[int]) -> int:
    """Return the sum of what processes share with nobody and no file, in kilobytes."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    total += int(line.split()[1])
    return total
