"""A proxy before a TCP server that fails on demand, in the middle of a conversation."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit, urlunsplit


class TcpProxy:
    """Forwards to the server that a URL names; `url` leads through the proxy."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}"))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._left: int | None = None
        self._pause_a_byte = 0.0
        self.cuts = 0
        self._deaf = threading.Event()

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._deaf.clear()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def cut(self) -> None:
        """End all connections, on both sides."""
        for one in self._open:
            _close(one)
        self._open.clear()

    def cut_after(self, size: int) -> None:
        """Have a connection cut once so many more bytes went to the server."""
        self._left = size

    def slow_down(self, bytes_per_second: float) -> None:
        """From now on let no more than so much through to the server."""
        self._pause_a_byte = 1 / bytes_per_second

    def swallow_answers(self) -> None:
        """From now on let nothing come back, while all stays open."""
        self._deaf.set()

    def let_through(self) -> None:
        """Let answers come back on new connections; end the old ones, whose answers are lost."""
        self._deaf.clear()
        self.cut()

    def _spawn(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(self._target)
                except OSError:
                    _close(client)
                    continue
                self._open += [client, server]
                self._spawn(self._to_server, client, server)
                self._spawn(self._to_client, client, server)

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if self._left is not None:
                    if len(data) >= self._left:
                        server.sendall(data[: self._left])
                        self._left = None
                        self.cuts += 1
                        break
                    self._left -= len(data)
                server.sendall(data)
                time.sleep(len(data) * self._pause_a_byte)
        _close(server)
        _close(client)

    def _to_client(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if not self._deaf.is_set():
                    client.sendall(data)
        _close(client)
        _close(server)


def _close(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
