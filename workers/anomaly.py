"""Watches for anomalies: follows both logs in the order of time, and records what it finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psycopg import Connection

from commands.recorder import OrderOutdated
from projections.behaviour import CONSUMER
from workers.detection import Detection, Parts
from workers.feed import Feed
from workers.turns import Turn, Turns

PAUSE_SECONDS = 1.0
"""Between two steps that leave nothing to do: rows wait to be settled anyhow, and fewer steps store fewer states."""


class AnomalyWorker(Turns):
    """Takes a step of detection a turn. Others stand by; one that takes over goes on from what is stored."""

    TITLE = "anomaly worker"

    def __init__(
        self,
        connect: Callable[[], Connection[Any]],
        parts: Parts,
        open_feed: Callable[[], Feed],
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        super().__init__(CONSUMER, connect, open_feed, pause_seconds)
        self._parts = parts
        self._detection: Detection | None = None
        self._last: Turn | None = None

    def _forget(self) -> None:
        self._detection = self._last = None
        # Who stands by does not read the log, and would not hear of whoever is erased.
        self._parts.senders.forget_all()

    def _work(self, connection: Connection[Any]) -> Turn:
        if self._detection is None:
            self._detection = Detection(connection, self._parts)
        is_idle = self._last is not None and self._last.caught_up
        if is_idle and not self._may_have_news(connection):
            assert self._last is not None
            return self._last
        try:
            self._last = self._detection.step()
        except OrderOutdated:
            # Under whose key something is sealed was erased meanwhile: the step is taken anew, without it.
            self._forget()
            return Turn(more=True)
        except BaseException:
            self._forget()
            raise
        return self._last
