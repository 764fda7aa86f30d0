"""SIGTERM and SIGINT as a request to stop: asked for once, however often the signals come."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

STOPPING = (signal.SIGTERM, signal.SIGINT)


class Stopped(BaseException):
    """A signal has come before there was a loop that could be asked to stop; what was begun is undone."""


class StopRequest:
    """Holds the handlers of both signals from entering to leaving, in the main thread.

    At first a signal raises Stopped where the program is; after `as_event` it sets the event; after `ignore` it does
    nothing, to the end of the process: a second Ctrl-C must not leave half of what is being put away.
    """

    def __init__(self) -> None:
        self._react: Callable[[], None] = self._raise
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._handle) for number in STOPPING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def as_event(self) -> asyncio.Event:
        """Return an event of the running loop that the next signal sets."""
        loop = asyncio.get_running_loop()
        event = asyncio.Event()

        def react() -> None:
            with suppress(RuntimeError):  # the loop may have just been closed
                loop.call_soon_threadsafe(event.set)

        self._react = react
        return event

    def ignore(self) -> None:
        """Let further signals do nothing, also after leaving."""
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
        self._before.clear()

    def _handle(self, number: int, frame: object) -> None:
        del number, frame
        self._react()

    def _raise(self) -> None:
        self.ignore()
        raise Stopped
