"""HTTP over a bare socket: sends bytes as they are, and reads what comes back strictly."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import Any, Self

_BODY_SECONDS = 10.0
_SERVICES_ERROR = {"error", "error_code", "details"}


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer: status, headers by their names in lower case, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether the connection ends after it."""
        return self.headers.get("connection", "") == "close" or ("keep-alive" not in self.headers and self.is_old)

    @property
    def is_old(self) -> bool:
        """Whether it is HTTP/1.0, where connections end unless said otherwise."""
        return self.headers[""].startswith("HTTP/1.0")

    def problem(self) -> str | None:
        """Say what is wrong with it, whatever the request was: its status, its headers or its shape."""
        if "x-request-id" not in self.headers:
            return "has no X-Request-ID"
        if self.status >= 500 and not (self.status == 503 and "retry-after" in self.headers):
            return "is a server error"
        if self.status < 400:
            return None
        if self.headers.get("content-type") != "application/json; charset=utf-8":
            return "is an error that is not JSON"
        return None if not self.body or is_error_shape(json.loads(self.body)) else "is an error of unknown shape"


def is_error_shape(body: Any) -> bool:
    """Whether a body is an error of one of the two dialects."""
    return isinstance(body, dict) and (body.keys() == {"detail"} or body.keys() >= _SERVICES_ERROR)


class RawConnection:
    """A connection of a client that may send anything."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect to a port of this machine."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def send(self, raw: bytes) -> None:
        """Send bytes."""
        self._writer.write(raw)
        await self._writer.drain()

    async def receive(self, seconds: float = 5.0, *, has_body: bool = True) -> RawAnswer | None:
        """Read one answer; None where the connection ended instead. Raises TimeoutError where none begins in time."""
        try:
            async with asyncio.timeout(seconds):
                answer = await self._head()
                while answer.status < 200:
                    answer = await self._head()
            async with asyncio.timeout(_BODY_SECONDS):
                length = int(answer.headers["content-length"]) if has_body else 0
                body = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return RawAnswer(answer.status, answer.headers, body)

    async def _head(self) -> RawAnswer:
        head = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("ascii").removesuffix("\r\n\r\n").split("\r\n")
        headers = {"": first}
        for line in lines:
            name, _, value = line.partition(": ")
            assert name.lower() not in headers, line
            headers[name.lower()] = value
        return RawAnswer(int(first.split(" ")[1]), headers, b"")

    async def ended(self, seconds: float) -> bool:
        """Wait for the server to end the connection; False where it has not by then."""
        try:
            async with asyncio.timeout(seconds):
                while await self._reader.read(65536):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True


async def ask(port: int, raw: bytes, seconds: float = 20.0) -> RawAnswer:
    """Send bytes over a fresh connection and return the answer."""
    connection = await RawConnection.open(port)
    try:
        await connection.send(raw)
        answer = await connection.receive(seconds, has_body=not raw.startswith(b"HEAD "))
        assert answer is not None
        return answer
    finally:
        await connection.close()
