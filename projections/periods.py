"""Which days an answer covers. Days are those of UTC."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from projections.usage_reports import first_day


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """`days` whole days in UTC, from `since` to before `until`; the last of them is today, which is not over."""

    days: int
    since: datetime
    until: datetime

    @property
    def dates(self) -> list[str]:
        """Every day of the period, oldest first, as ISO 8601."""
        return [(self.since + timedelta(days=offset)).date().isoformat() for offset in range(self.days)]


def last_days(now: datetime, days: int) -> Period:
    """Return the period of so many days that ends with today."""
    since = first_day(now, days)
    return Period(days=days, since=since, until=since + timedelta(days=days))


def recorded_since(now: datetime, retention_days: int) -> datetime:
    """Return the start of the oldest day that retention leaves in the usage log: so many days before today."""
    return first_day(now, retention_days + 1)
