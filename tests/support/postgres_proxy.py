"""A proxy between the service and PostgreSQL that swallows, delays and cuts, over TCP as on a real network."""

from __future__ import annotations

import re
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self

from psycopg.conninfo import conninfo_to_dict

from infra.postgres import Database

SOCKET_NAME = ".s.PGSQL.5432"

Fault = Literal["the reply to COMMIT", "COMMIT", "the reply to COPY", "the end of COPY"]

_FROM_CLIENT: dict[Fault, re.Pattern[bytes]] = {
    # Of a Parse, or of a Query; and CopyDone.
    "COMMIT": re.compile(rb"(?:P....\x00|Q\x00\x00\x00\x0b)COMMIT\x00", re.DOTALL),
    "the end of COPY": re.compile(rb"c\x00\x00\x00\x04"),
}
_FROM_SERVER: dict[Fault, re.Pattern[bytes]] = {
    # CommandComplete, which comes when the transaction is committed.
    "the reply to COMMIT": re.compile(rb"C\x00\x00\x00\x0bCOMMIT\x00"),
    "the reply to COPY": re.compile(rb"C\x00\x00\x00.COPY \d+\x00", re.DOTALL),
}


class _Link:
    """One client's connection. `name` is its application name, once the first message has come."""

    def __init__(self, client: socket.socket, server: socket.socket | None) -> None:
        self.client = client
        self.server = server
        self.name = ""
        self.swallows = server is None

    def close(self) -> None:
        for one in (self.client, self.server):
            if one is not None:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


class PostgresProxy:
    """Forwards to a database's unix socket; `database` leads through the proxy.

    What is swallowed is lost for ever, on a connection that stays open for both sides.
    """

    def __init__(self, database: Database) -> None:
        target = conninfo_to_dict(database.url)
        self._target = Path(str(target["host"])) / SOCKET_NAME
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        port = self._listener.getsockname()[1]
        url = f"postgresql://postgres@127.0.0.1:{port}/{target['dbname']}"
        self.database = Database(url, url)
        self._links: list[_Link] = []
        self._turn = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._swallows_new = False
        self._delay = 0.0
        self._fault: tuple[Fault, str] | None = None
        self._act: Callable[[], None] | None = None
        self.happened = threading.Event()

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def names(self) -> set[str]:
        """Return the application names of those that are connected, and heard."""
        with self._turn:
            return {link.name for link in self._links if not link.swallows}

    def swallow(self, *names: str, new: bool = False) -> int:
        """Let nothing more through on the connections of these names, or on all; return how many those are.

        With `new`, those that are opened from now on are swallowed too, until `let_through`.
        """
        with self._turn:
            chosen = [link for link in self._links if not link.swallows and (not names or link.name in names)]
            for link in chosen:
                link.swallows = True
            self._swallows_new = new
        return len(chosen)

    def let_through(self) -> None:
        """Let new connections through again. What was swallowed stays silent."""
        self._swallows_new = False

    def delay(self, seconds: float) -> None:
        """Hold up each message for so long, on its way there and back."""
        self._delay = seconds

    def lose(self, fault: Fault, name: str = "lizenzserver") -> None:
        """Have the next such message on a connection of this application be lost, and the connection with it."""
        self.happened.clear()
        self._act = None
        self._fault = fault, name

    def swallow_from(self, fault: Fault, name: str, act: Callable[[], None]) -> None:
        """Have nothing more come through from the next such message of a client on, and do something at that moment."""
        self.happened.clear()
        self._act = act
        self._fault = fault, name

    def cut(self) -> None:
        """End all connections, on both sides."""
        with self._turn:
            for link in self._links:
                link.close()
            self._links.clear()

    def _spawn(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                swallows = self._swallows_new
                server = None if swallows else self._reach()
                if server is None and not swallows:
                    # The server is not there: the client is told at once.
                    client.close()
                    continue
                link = _Link(client, server)
                with self._turn:
                    # Nobody may slip in while all that there are begin to be swallowed.
                    link.swallows |= self._swallows_new
                    self._links.append(link)
                self._spawn(self._serve, link)

    def _reach(self) -> socket.socket | None:
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(self._target))
        except OSError:
            server.close()
            return None
        return server

    def _serve(self, link: _Link) -> None:
        try:
            self._pump(link)
        except OSError:
            pass
        finally:
            with self._turn:
                if link in self._links:
                    self._links.remove(link)
            link.close()
            link.client.close()
            if link.server is not None:
                link.server.close()

    def _pump(self, link: _Link) -> None:
        """Forward both ways until one side ends."""
        both = [one for one in (link.client, link.server) if one is not None]
        while both:
            readable, _, _ = select.select(both, [], [], 1.0)
            for one in readable:
                data = one.recv(262_144)
                if not data and link.swallows:
                    # Nor does the other side hear of the end.
                    both.remove(one)
                elif not data or not self._forward(link, one, data):
                    return

    def _forward(self, link: _Link, one: socket.socket, data: bytes) -> bool:
        """Send on what came from one side; tell whether the connection goes on."""
        if not link.name and one is link.client:
            link.name = _application_name(data)
        if self._delay:
            time.sleep(self._delay)
        if link.swallows:
            return True
        assert link.server is not None
        patterns, other = (_FROM_CLIENT, link.server) if one is link.client else (_FROM_SERVER, link.client)
        found = self._found(patterns, link, data)
        other.sendall(data if found is None else data[:found])
        if found is None:
            return True
        act, self._act = self._act, None
        if act is not None:
            link.swallows = True
            act()
        self.happened.set()
        return act is not None

    def _found(self, patterns: dict[Fault, re.Pattern[bytes]], link: _Link, data: bytes) -> int | None:
        with self._turn:
            fault = self._fault
            if fault is None or fault[1] != link.name or fault[0] not in patterns:
                return None
            match = patterns[fault[0]].search(data)
            if match is None:
                return None
            self._fault = None
            return match.start()


def _application_name(startup: bytes) -> str:
    """Return what a startup message says, or '' where it is none (such as a request for TLS)."""
    found = re.search(rb"\x00application_name\x00([^\x00]*)\x00", startup)
    return found[1].decode() if found else ""
