"""Numbers as explanations say them."""

from __future__ import annotations

from domain.anomalies.thresholds import DAY, HOUR

_MINUTE = 60


def span(seconds: int) -> str:
    """Say a time in its largest whole unit, such as `4 days`, `1 hour` or `90 seconds`."""
    for size, unit in ((DAY, "day"), (HOUR, "hour"), (_MINUTE, "minute")):
        if seconds >= size and seconds % size == 0:
            return counted(seconds // size, unit)
    return counted(seconds, "second")


def about(seconds: float) -> str:
    """Say how long something lasted: days to a tenth, below that whole hours."""
    if seconds >= DAY:
        return f"{seconds / DAY:.1f} days"
    return counted(int(seconds // HOUR), "hour") if seconds >= HOUR else "less than an hour"


def counted(number: int, thing: str) -> str:
    """Say how many, such as `1 seat` or `2 seats`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
