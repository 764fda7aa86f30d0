"""What a projection is: named tables that follow from the logs, and how events change them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from psycopg import Connection

from domain.facts import Recorded

Log = Literal["events", "usage"]
"""The event log, or the log of validations and heartbeats."""

ApplyEvents = Callable[[Connection[Any], Sequence[tuple[int, Recorded]]], None]
"""Write what events, each with its position, change."""

ApplyUsage = Callable[[Connection[Any], int, int], None]
"""Write what the usage log's rows after one id, up to and including another, change."""

CarryOver = Callable[[Connection[Any], date], None]
"""Copy from the live tables what rests on days before a date, which the usage log does not hold any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """Tables and the functions that write them, on the connection that they are handed.

    Tables are named without their schema, so that the same functions write the live ones and those of a rebuild.
    Each event is applied once, in any order. A function that raises has changed nothing: its transaction is undone.
    """

    name: str
    tables: tuple[str, ...]
    apply_events: ApplyEvents | None = None
    apply_usage: ApplyUsage | None = None
    carry_over: CarryOver | None = None

    @property
    def logs(self) -> tuple[Log, ...]:
        """Return which logs it follows."""
        events: tuple[Log, ...] = ("events",) if self.apply_events is not None else ()
        usage: tuple[Log, ...] = ("usage",) if self.apply_usage is not None else ()
        return events + usage
