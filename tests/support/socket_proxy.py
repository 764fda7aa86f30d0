"""A proxy between libpq and PostgreSQL's unix socket that fails on demand, in the middle of a conversation."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

from infra.postgres import Database

SOCKET_NAME = ".s.PGSQL.5432"
COMMIT = b"\x00COMMIT\x00"
"""The end of the client's Parse message for a COMMIT, which begins five bytes earlier."""
COMMIT_DONE = b"C\x00\x00\x00\x0bCOMMIT\x00"
"""The server's CommandComplete message for a COMMIT (PostgreSQL's message formats)."""

Fault = Literal["lose the reply to COMMIT", "lose COMMIT", "lose COMMIT and stay half open"]


class SocketProxy:
    """Listens in `folder` and forwards to a database. Each armed fault happens once, to whoever comes first.

    A connection whose fault leaves it half open is closed for the client, while the server waits on.
    """

    def __init__(self, database: Database, folder: Path) -> None:
        self._target = Path(str(conninfo_to_dict(database.url)["host"])) / SOCKET_NAME
        self._folder = folder
        self._listener = socket.socket(socket.AF_UNIX)
        self._open: list[socket.socket] = []
        self._fault: Fault | None = None
        self._threads: list[threading.Thread] = []
        dbname = str(conninfo_to_dict(database.url)["dbname"])
        url = f"postgresql:///{dbname}?host={quote(str(folder), safe='')}&port=5432&user=postgres"
        self.database = Database(url, url)
        self.happened = threading.Event()
        self.refusing = threading.Event()

    def __enter__(self) -> Self:
        self._listener.bind(str(self._folder / SOCKET_NAME))
        self._listener.listen()
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def arm(self, fault: Fault) -> None:
        """Have this happen at the next COMMIT."""
        self.happened.clear()
        self._fault = fault

    def cut(self) -> None:
        """End all connections, on both sides."""
        for one in self._open:
            _close(one)
        self._open.clear()

    def _spawn(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.refusing.is_set():
                    _close(client)
                    continue
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(str(self._target))
                except OSError:
                    # The server is not there: the client is told at once.
                    _close(server)
                    _close(client)
                    continue
                self._open += [client, server]
                self._spawn(self._to_server, client, server)
                self._spawn(self._to_client, client, server)

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if COMMIT in data and self._fault in {"lose COMMIT", "lose COMMIT and stay half open"}:
                    # What comes before it in the same message is carried out.
                    server.sendall(data[: data.index(COMMIT) - 5])
                    half_open = self._take_fault() == "lose COMMIT and stay half open"
                    _close(client)
                    if half_open:
                        return
                    break
                server.sendall(data)
        _close(server)

    def _to_client(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if COMMIT_DONE in data and self._fault == "lose the reply to COMMIT":
                    self._take_fault()
                    break
                client.sendall(data)
        _close(client)

    def _take_fault(self) -> Fault | None:
        fault, self._fault = self._fault, None
        self.happened.set()
        return fault


def _close(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
