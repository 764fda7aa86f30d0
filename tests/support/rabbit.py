"""A RabbitMQ server that a test owns: private ports, a temporary folder; it may be killed, frozen and started again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from tests.support.free_ports import free_ports
from tests.support.process_tree import process_tree, wait_until_ended

START_SECONDS = 150
STOP_SECONDS = 30
COMMAND_SECONDS = 160
ACKED_TOGETHER = 500
PROBE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """A name space of a server, seen with a client that is not ours. `url` is its address."""

    url: str

    @contextmanager
    def channel(self) -> Iterator[BlockingChannel]:
        """Give a channel on a connection of its own."""
        connection = pika.BlockingConnection(pika.URLParameters(self.url))
        try:
            yield connection.channel()
        finally:
            if connection.is_open:
                connection.close()

    def new_queue(self, name: str, exchange: str = "licenses.events", key: str = "#") -> None:
        """Make a quorum queue of an analyst's."""
        with self.channel() as channel:
            channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
            channel.queue_bind(name, exchange, key)

    def take(self, queue: str) -> list[Taken]:
        """Take all messages from a queue, in order."""
        return list(self.each(queue))

    def each(self, queue: str) -> Iterator[Taken]:
        """Take all messages from a queue, one after another."""
        with self.channel() as channel:
            channel.basic_qos(prefetch_count=1000)
            last = acked = 0
            # The generator ends after a second without a message; a quorum queue may take a moment to begin.
            for method, properties, body in channel.consume(queue, inactivity_timeout=1.0):
                if method is None or properties is None or body is None:
                    break
                yield Taken(str(method.routing_key), properties, json.loads(body))
                last = method.delivery_tag or 0
                if last - acked == ACKED_TOGETHER:
                    channel.basic_ack(last, multiple=True)
                    acked = last
            if last > acked:
                # Not all that were delivered: one may have come just now.
                channel.basic_ack(last, multiple=True)
        # On a machine that stands still, a second without one means nothing. What was delivered and not taken is in the
        # queue again, since that channel is closed: it is asked for what it has.
        with self.channel() as channel:
            while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
                yield Taken(str(got[0].routing_key), got[1], json.loads(got[2]))

    def has(self, queue: str) -> bool:
        """Tell whether there is a queue of this name."""
        with self.channel() as channel:
            try:
                channel.queue_declare(queue, passive=True)
            except ChannelClosedByBroker:
                return False
        return True

    def leads_to(self, queue: str, exchange: str = "licenses.events") -> bool:
        """Publish a message that is nobody's, and tell whether it comes to a queue that takes all."""
        with self.channel() as channel:
            channel.confirm_delivery()
            before = channel.queue_declare(queue, passive=True).method.message_count
            channel.basic_publish(exchange, "probe", b"{}")
            deadline = time.monotonic() + PROBE_SECONDS
            while channel.queue_declare(queue, passive=True).method.message_count == before:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.1)
        return True

    def size(self, queue: str) -> int:
        """Return how many messages of a queue are ready to be delivered."""
        with self.channel() as channel:
            declared = channel.queue_declare(queue, passive=True)
            return int(declared.method.message_count or 0)


class Taken(NamedTuple):
    """A message that was taken from a queue."""

    key: str
    properties: pika.BasicProperties
    event: dict[str, Any]


class Rabbit:
    """A server on this machine. Usable within `with`."""

    def __init__(self) -> None:
        # Debian puts it where the path of an ordinary user does not lead.
        program = shutil.which("rabbitmq-server", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
        if program is None:
            raise RuntimeError("rabbitmq-server is not installed; tests/install-tools.sh does that")
        # The scripts on the path may switch the user; those beside them do as they are told.
        scripts = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))
        self._scripts = scripts[-1] if scripts else Path(program).parent
        self._folder = TemporaryDirectory(prefix="lizenzserver-rabbit-")
        self._path = Path(self._folder.name)
        self.port, self._dist_port, self._epmd_port = free_ports(3)
        self._numbers = count(1)
        self._node = f"lizenz{self.port}@localhost"
        self._epmd: subprocess.Popen[bytes] | None = None
        self._script: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        """Where the server keeps its queues and its log."""
        return self._path

    def __enter__(self) -> Self:
        # Otherwise whichever of the server and rabbitmqctl comes first makes one; both, where they start at once.
        cookie = self._path / ".erlang.cookie"
        cookie.write_text("MADEUPFORTHETESTSONLY")
        cookie.chmod(0o400)
        # An Erlang port mapper of its own: the usual one would be shared, and would stay behind.
        self._epmd = subprocess.Popen(
            [shutil.which("epmd") or "epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
        self._folder.cleanup()

    def start(self) -> None:
        """Start the server on its folder and return when it takes connections."""
        self._pid_file.unlink(missing_ok=True)
        with (self._path / "output").open("ab") as output:
            self._script = subprocess.Popen(
                [str(self._scripts / "rabbitmq-server")],
                env=self._environ(),
                cwd=self._path,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            self.control("wait", "--timeout", str(START_SECONDS), str(self._pid_file))
        except subprocess.CalledProcessError as error:
            raise RuntimeError(f"RabbitMQ did not start: {self.output()[-2000:]}") from error

    def kill(self) -> None:
        """End the server as a power cut would.

        RabbitMQ 3.10 writes down a new quorum queue's registration after three seconds only, and killed before that
        never elects its leader again. Our tests are not about that, so it is written down first.
        """
        self.control("eval", "[dets:sync(Table) || Table <- dets:all()].")
        self._end()

    def _end(self) -> None:
        if self._script is None:
            return
        processes = process_tree(self._script.pid)
        with suppress(ProcessLookupError):
            os.killpg(self._script.pid, signal.SIGKILL)
        self._script.wait(STOP_SECONDS)
        self._script = None
        # The script is gone. The server gives its ports and its name back only when it is, too.
        wait_until_ended(processes)

    def freeze(self) -> None:
        """Stop the server's processes where they are. Its connections stay open."""
        assert self._script is not None
        os.killpg(self._script.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        assert self._script is not None
        os.killpg(self._script.pid, signal.SIGCONT)

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl and return what it prints."""
        return self._run("rabbitmqctl", *arguments)

    def new_host(self) -> VirtualHost:
        """Make a virtual host of its own for one test."""
        if self._script is None:
            # A test that failed has left it dead: that one failure is enough.
            self.start()
        name = f"test{next(self._numbers)}"
        # In one call: each takes a second to start.
        self.control(
            "eval",
            f'rabbit_vhost:add(<<"{name}">>, <<"test">>), rabbit_auth_backend_internal:set_permissions('
            f'<<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"test">>).',
        )
        return VirtualHost(f"amqp://guest:guest@127.0.0.1:{self.port}/{name}")

    def output(self) -> str:
        """Return what the server has printed."""
        return (self._path / "output").read_text(errors="replace")

    @property
    def _pid_file(self) -> Path:
        return self._path / "pid"

    def _run(self, script: str, *arguments: str) -> str:
        command = [str(self._scripts / script), *arguments]
        done = subprocess.run(
            command, env=self._environ(), cwd=self._path, check=True, capture_output=True, timeout=COMMAND_SECONDS
        )
        return done.stdout.decode()

    def _environ(self) -> dict[str, str]:
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        paths = {
            "HOME": "",
            "RABBITMQ_MNESIA_BASE": "mnesia",
            "RABBITMQ_LOG_BASE": "log",
            "RABBITMQ_ENABLED_PLUGINS_FILE": "plugins",
            "RABBITMQ_PID_FILE": "pid",
            "RABBITMQ_CONFIG_FILE": "rabbitmq",
            "RABBITMQ_ADVANCED_CONFIG_FILE": "advanced",
            "RABBITMQ_CONF_ENV_FILE": "environment",
        }
        return {
            **plain,
            **{name: str(self._path / path) for name, path in paths.items()},
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
        }
