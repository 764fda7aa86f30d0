"""The time that a fleet's history covers."""

from __future__ import annotations

from typing import NamedTuple

from bench.fleet.seeds import DAY


class Window(NamedTuple):
    """The history's `start` in seconds since 1970, a Monday's midnight in UTC, and its number of days."""

    start: float
    days: int

    @property
    def end(self) -> float:
        """The first moment after it."""
        return self.start + self.days * DAY
