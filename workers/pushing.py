"""Sending checkpoints off the host: to a file, to an HTTP address, to a queue.

A checkpoint that could not be sent is tried again until there is a newer one: that covers all that came before.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
from abc import ABC, abstractmethod
from http.client import HTTPException
from pathlib import Path
from typing import ClassVar
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from infra.settings import Settings
from workers.broker import Broker, BrokerAway

log = logging.getLogger(__name__)

SECONDS = 10.0
"""How long an HTTP address may take to answer."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0


class NotSent(Exception):
    """A checkpoint could not be sent. The message holds no address."""


class Pusher(ABC):
    """Sends the newest checkpoint until it has arrived; `trouble` says why it has not."""

    TO: ClassVar[str]
    """Where to, as log lines and health call it."""

    def __init__(self) -> None:
        self.trouble = ""
        self._waiting: str | None = None
        self._there_is_one = asyncio.Event()

    @abstractmethod
    async def send(self, note: str) -> None:
        """Send it, or raise NotSent."""

    def offer(self, note: str) -> None:
        """Have a checkpoint sent, in place of one that still waits; return at once."""
        self._waiting = note
        self._there_is_one.set()

    async def run(self) -> None:
        """Send until cancelled."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            await self._there_is_one.wait()
            note = self._waiting
            assert note is not None
            why = await self._tried(note)
            if why:
                self._say(f"can't send checkpoints to {self.TO}: {why}")
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                continue
            pause = FIRST_PAUSE_SECONDS
            self._say("")
            if self._waiting is note:
                self._there_is_one.clear()

    async def _tried(self, note: str) -> str:
        """Send it; return why that was not possible. Whatever it is, later ones are to be sent."""
        try:
            await self.send(note)
        except NotSent as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - its text, or a traceback, may hold the address
            return type(error).__name__
        return ""

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            log.log(logging.WARNING if trouble else logging.INFO, "the notary %s", trouble or f"reaches {self.TO}")


class FilePush(Pusher):
    """Adds each checkpoint to the end of a file, which may be one that only allows that, and has it on the disk."""

    TO = "AUDIT_PUSH_FILE"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    async def send(self, note: str) -> None:
        """Append all of it, or nothing."""
        try:
            await asyncio.to_thread(self._append, note.encode())
        except OSError as error:
            raise NotSent(error.strerror or type(error).__name__) from error

    def _append(self, note: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            end = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, note)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)


class HttpPush(Pusher):
    """Posts each checkpoint as text/plain, and expects a 2xx. It follows no redirection."""

    TO = "AUDIT_PUSH_URL"

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url, self._login = _without_login(url)

    async def send(self, note: str) -> None:
        """Post it."""
        await asyncio.to_thread(self._post, note.encode())

    def _post(self, note: bytes) -> None:
        headers = {"Content-Type": "text/plain; charset=utf-8", "User-Agent": "lizenzserver"}
        if self._login is not None:
            headers["Authorization"] = f"Basic {self._login}"
        request = Request(self._url, note, headers, method="POST")  # noqa: S310 - the setting's scheme was checked
        try:
            with build_opener(_NoRedirection).open(request, timeout=SECONDS) as response:
                response.read(1)
        except HTTPError as error:
            error.close()
            raise NotSent(f"it answered {error.code}") from None
        except URLError as error:
            raise NotSent(getattr(error.reason, "strerror", None) or type(error.reason).__name__) from None
        except (OSError, HTTPException) as error:
            raise NotSent(type(error).__name__) from None


class QueuePush(Pusher):
    """Publishes each checkpoint to a queue of the broker, durable, and waits for its confirm."""

    TO = "AUDIT_PUSH_QUEUE"

    def __init__(self, amqp_url: str, queue: str) -> None:
        super().__init__()
        self._amqp_url = amqp_url
        self._queue = queue

    async def send(self, note: str) -> None:
        """Publish it, on a connection of its own: there are minutes between two, as a rule."""
        try:
            broker = await Broker.connect(self._amqp_url, "lizenzserver notary")
            try:
                await broker.send_text(self._queue, note)
            finally:
                await broker.close()
        except BrokerAway as error:
            raise NotSent(str(error).partition("\n")[0]) from error


def pushes(settings: Settings) -> list[Pusher]:
    """Make what the settings ask for."""
    found: list[Pusher] = []
    if settings.audit_push_file is not None:
        found.append(FilePush(settings.audit_push_file))
    if settings.audit_push_url is not None:
        found.append(HttpPush(settings.audit_push_url.reveal()))
    if settings.audit_push_queue is not None and settings.amqp_url is not None:
        found.append(QueuePush(settings.amqp_url.reveal(), settings.audit_push_queue))
    return found


class _NoRedirection(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Follow none: a body would be sent to nobody knows whom."""


def _without_login(url: str) -> tuple[str, str | None]:
    """Return an address without the user and password in it, and these as HTTP's basic credentials."""
    parts = urlsplit(url)
    login, separator, host = parts.netloc.rpartition("@")
    if not separator:
        return url, None
    return parts._replace(netloc=host).geturl(), base64.b64encode(unquote(login).encode()).decode()


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
