"""Connections as strangers make them: bytes that are no HTTP, bodies that never end, readers that never read.

aiohttp answers what it can't parse with plain text and a traceback in the log, leaves a request whose chunks turn out
broken waiting for ever, and waits for ever for a client that does not read. Here all of them end, in our own shape.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage

from api.reply import Reply

KEEPALIVE_SECONDS = 30.0
"""How long a connection may be idle, and how long a request's headers may take from then on."""
LINGER_SECONDS = 2.0
"""How long the rest of a body that nobody wants is read, so that the client gets to see the answer."""
WRITE_SECONDS = 30.0
"""How long a client may leave an answer unread."""
_BEGINNING = 64
"""Bytes that tell the dialect of a request which can't be parsed."""

Shortcuts = Mapping[tuple[str, str], Callable[[web.Request], Awaitable[Any]]]
"""Handlers by method and path."""

SHORTCUTS: web.AppKey[Shortcuts] = web.AppKey("shortcuts")
"""Under this name an application has them."""

AnswerUnreadable = Callable[[bytes], Reply]
"""Of the beginning of what can't be parsed: the answer."""


class Connection(web.RequestHandler):
    """A client's connection. It ends in bounded time, whatever the client does or leaves undone."""

    __slots__ = ("_answer_unreadable", "_beginning", "_newest_payload", "_write_seconds", "_write_timer")

    def __init__(
        self, manager: web.Server, *, answer_unreadable: AnswerUnreadable, write_seconds: float, **options: Any
    ) -> None:
        super().__init__(manager, **options)
        self._answer_unreadable = answer_unreadable
        self._write_seconds = write_seconds
        self._beginning = b""
        self._newest_payload: StreamReader | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client. Where they break the request that is under way, it learns so at once."""
        super().data_received(data)
        if not self._messages:
            return
        message, payload = self._messages[-1]
        if isinstance(message, RawRequestMessage):
            self._newest_payload = payload
            return
        self._beginning = bytes(data[:_BEGINNING])
        broken = self._newest_payload
        if broken is not None and not broken.is_eof() and broken.exception() is None:
            broken.set_exception(web.RequestPayloadError("the body is broken"))

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's signature
        """Read on, where reading was paused. Each body that was read asks for it, mostly in vain: that took 2 µs."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> Any:
        """Answer what can't be parsed. Nothing of it is logged: there may be secrets in it."""
        del request, status, exc, message
        response = self._answer_unreadable(self._beginning)
        response.force_close()
        return response

    def finish_response(
        self, request: web.BaseRequest, resp: Any, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[Any, bool]]:
        """Send an answer. One that aiohttp made before our middleware was reached (417) is put into our shape."""
        if isinstance(resp, web.HTTPException):
            resp = self._answer_unreadable(f"{request.method} {request.path}".encode(errors="replace"))
        if isinstance(resp, Reply):
            if not self._upgraded and request.method != "HEAD":
                return self._send(request, resp)
            resp = resp.as_response()
        return super().finish_response(request, resp, start_time)

    async def _send(self, request: web.BaseRequest, reply: Reply) -> tuple[Any, bool]:
        """Send an answer in one piece; tell whether the client was gone before."""
        request._finish()  # noqa: SLF001 - as aiohttp does before it sends
        transport = self.transport
        if transport is None or transport.is_closing():
            return reply, True
        transport.write(reply.encoded(request))
        if self.writing_paused:
            await self._drain_helper()
        return reply, False

    def log_exception(self, *args: Any, **details: Any) -> None:
        """Log what is unexpected; a broken body is not, and was answered."""
        if not isinstance(details.get("exc_info"), web.RequestPayloadError | ConnectionError):
            super().log_exception(*args, **details)

    def pause_writing(self) -> None:
        """Begin to count the time in which the client must read."""
        super().pause_writing()
        self._write_timer = self._loop.call_later(self._write_seconds, self._give_up)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._stop_timer()
        super().resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go of everything."""
        self._stop_timer()
        self._newest_payload = None
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _give_up(self) -> None:
        self._write_timer = None
        if self.transport is not None:
            self.transport.abort()


class _Server(web.Server):
    """aiohttp's server, with our connections, and a short way to the routes that have no parameters."""

    def __init__(self, plain: web.Server, shortcuts: Shortcuts, options: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(_shorter(plain.request_handler, shortcuts), request_factory=plain.request_factory, loop=loop)
        self._connect = partial(Connection, self, loop=loop, **options)

    def __call__(self) -> web.RequestHandler:
        return self._connect()


def _shorter(usual: Callable[[Any], Awaitable[Any]], shortcuts: Shortcuts) -> Callable[[Any], Awaitable[Any]]:
    """Return the handler of all requests, which spares those with a shortcut aiohttp's search for their route.

    That search, and what is made of its result, cost a sixth of an otherwise empty handler (measured).
    """

    def handle(request: web.Request) -> Awaitable[Any]:
        shortcut = shortcuts.get((request.method, request.raw_path))
        if shortcut is None or "Expect" in request.headers:
            return usual(request)
        return shortcut(request)

    return handle


class Runner(web.AppRunner):
    """Runs a service's application on connections that are safe to show to strangers."""

    def __init__(
        self,
        app: web.Application,
        answer_unreadable: AnswerUnreadable,
        *,
        keepalive_seconds: float = KEEPALIVE_SECONDS,
        write_seconds: float = WRITE_SECONDS,
        shutdown_seconds: float = 10.0,
    ) -> None:
        super().__init__(app, handle_signals=False, shutdown_timeout=shutdown_seconds)
        self._options: dict[str, Any] = {
            "access_log": None,
            "answer_unreadable": answer_unreadable,
            "keepalive_timeout": keepalive_seconds,
            "lingering_time": LINGER_SECONDS,
            "write_seconds": write_seconds,
        }

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server(), self.app.get(SHORTCUTS, {}), self._options)
