"""Which days or hours an answer covers. Days are those of UTC."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import msgspec

HOUR = timedelta(hours=1)


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """`days` whole days in UTC, from `since` to before `until`; the last of them is today, which is not over."""

    days: int
    since: datetime
    until: datetime

    @property
    def dates(self) -> list[str]:
        """Every day of the period, oldest first, as ISO 8601."""
        return [(self.since + timedelta(days=offset)).date().isoformat() for offset in range(self.days)]

    @property
    def bounds(self) -> dict[str, datetime | date]:
        """What queries take: `since` and `until`, and the same as `first_day` and `end_day`, which is not in it."""
        return {
            "since": self.since,
            "until": self.until,
            "first_day": self.since.date(),
            "end_day": self.until.date(),
        }


def last_days(now: datetime, days: int) -> Period:
    """Return the period of so many days that ends with today."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    since = midnight - timedelta(days=days - 1)
    return Period(days=days, since=since, until=since + timedelta(days=days))


class Hours(msgspec.Struct, frozen=True, kw_only=True):
    """Whole hours of the clock, from `since` to before `until`; the last of them is not over."""

    since: datetime
    until: datetime

    @property
    def all(self) -> list[datetime]:
        """Every hour by its beginning, oldest first."""
        return [self.since + offset * HOUR for offset in range((self.until - self.since) // HOUR)]


def last_hours(now: datetime, hours: int) -> Hours:
    """Return so many hours of the clock, up to and including the current one."""
    until = now.replace(minute=0, second=0, microsecond=0) + HOUR
    return Hours(since=until - hours * HOUR, until=until)
