"""The one place that reads the clock: the machine's, corrected by a bounded offset to the database's."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

MAX_OFFSET = timedelta(days=2)
"""A larger difference is no drift but a fault, which a person has to look at."""

NOISE = timedelta(milliseconds=50)
"""Below this, and below the measure's own error, a correction would only add noise."""

# It goes on while the machine sleeps.
_STOPWATCH = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class ClockFault(Exception):
    """This machine's clock and the database's differ by more than any drift; the message says by how much."""


class Clock:
    """Gives the time that decisions are made on, so that processes on several machines agree.

    The machine's calendar is read once. From then on a stop-watch counts: who sets the machine's clock, back or
    forth, changes nothing here.
    """

    def __init__(self) -> None:
        self._started = datetime.now(UTC) - _stopwatch()
        self.offset = timedelta(0)

    def now(self) -> datetime:
        """Return the corrected time, aware, in UTC, in microseconds."""
        return self._uncorrected() + self.offset

    def monotonic(self) -> float:
        """Return seconds that only ever grow, for ages and deadlines within this process."""
        return time.monotonic()

    async def adjust(self, connection: Any) -> None:
        """Measure the offset to the database's clock. Raises ClockFault beyond two days."""
        before = self._uncorrected()
        cursor = await connection.execute("SELECT clock_timestamp() AS now")
        row = await cursor.fetchone()
        after = self._uncorrected()
        offset = row["now"] - (before + (after - before) / 2)
        if abs(offset) > MAX_OFFSET:
            msg = f"this machine's clock is {-offset} ahead of the database's"
            raise ClockFault(msg)
        self.offset = offset if abs(offset) > max(after - before, NOISE) else timedelta(0)

    def _uncorrected(self) -> datetime:
        return self._started + _stopwatch()


def _stopwatch() -> timedelta:
    return timedelta(microseconds=time.clock_gettime_ns(_STOPWATCH) // 1000)
