"""Answers of the analytics service.

Days, hours and weekdays are those of UTC. A use is a validation that succeeded or a heartbeat.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from api.schemas.admin import AsOf, DailyUsage
from api.schemas.common import Timestamp

Country = Annotated[str, Meta(description="ISO 3166 alpha-2")] | None
Seconds = Annotated[float, Meta(description="Seconds from a session's first use to its last")] | None


class Covered(msgspec.Struct, kw_only=True):
    """Which days an answer covers: `days` whole days from `since` to before `until`; today, the last, is not over."""

    days: int
    since: Timestamp
    until: Timestamp


class HourOfDay(msgspec.Struct, kw_only=True):
    """Uses in one hour of the day, 0 to 23, over all days."""

    hour: int
    uses: int


class Weekday(msgspec.Struct, kw_only=True):
    """Uses on one day of the week, over all weeks."""

    weekday: Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
    uses: int


class DeviceUse(msgspec.Struct, kw_only=True):
    """A device's uses, and the first and last of them within the period."""

    hardware_id: str
    uses: int
    first_seen_at: Timestamp
    last_seen_at: Timestamp


class CountryUses(msgspec.Struct, kw_only=True):
    """Uses from a country; null where the address belongs to none."""

    country: Country
    uses: int


class VersionUses(msgspec.Struct, kw_only=True):
    """Uses by a version of the program; null where it did not say."""

    app_version: str | None
    uses: int


class Sessions(msgspec.Struct, kw_only=True):
    """Runs of a device's uses with no gap over 30 minutes; lengths are null where there are none.

    All runs that touch the period; what lies before it is cut off.
    """

    count: int
    median_seconds: Seconds
    mean_seconds: Seconds
    max_seconds: Seconds


class Trend(msgspec.Struct, kw_only=True):
    """Uses per day in the second half of the period so far, against the first; a change up to 5 percent is flat.

    `percent` is null where there was no use before.
    """

    direction: Literal["up", "down", "flat"]
    percent: float | None
    uses_per_day: float
    uses_per_day_before: float


class SeatPoint(msgspec.Struct, kw_only=True):
    """Seats in use and allowed from a moment on."""

    at: Timestamp
    used: int
    allowed: int


class SeatCurve(msgspec.Struct, kw_only=True):
    """Steps of the seats in use and allowed: what held at `since`, then each change, oldest first.

    `changes` holds the newest 1,000 of `changes_in_all`. `peak` is the first moment with the most seats in use.
    """

    opening: SeatPoint
    changes: list[SeatPoint]
    changes_in_all: int
    peak: SeatPoint


class PatternsAnswer(Covered, kw_only=True):
    """When, where and how regularly a licence is used.

    `devices` holds the 100 most used, `app_versions` the 50 most used; `unique_devices` counts all.
    """

    license_id: UUID
    validations: int
    failed_validations: int
    heartbeats: int
    unique_devices: int
    hours: list[HourOfDay]
    weekdays: list[Weekday]
    devices: list[DeviceUse]
    countries: list[CountryUses]
    app_versions: list[VersionUses]
    sessions: Sessions
    trend: Trend
    seats: SeatCurve
    as_of: AsOf


class UseCounts(msgspec.Struct, kw_only=True):
    """How much was validated, refused and heard of."""

    validations: int
    failed_validations: int
    heartbeats: int


class LicenseUse(UseCounts, kw_only=True):
    """A licence's use."""

    license_id: UUID
    product: str | None
    unique_devices: int


class ProductUse(UseCounts, kw_only=True):
    """The use of all licences for a product; null are those without one."""

    product: str | None
    unique_devices: int


class CountryUse(UseCounts, kw_only=True):
    """Use from a country; null where the address belongs to none."""

    country: Country


class VersionUse(UseCounts, kw_only=True):
    """Use by a version of the program; null where it did not say."""

    app_version: str | None


class FailureReason(msgspec.Struct, kw_only=True):
    """How often requests were refused with one error code."""

    reason: str
    count: int


class UsageReportAnswer(Covered, kw_only=True):
    """The use of all licences.

    `daily` has every day; the other lists begin with the most used. `licenses` holds 20, `app_versions` 50.
    A machine with two licences counts as two devices, as it does in seats.
    """

    validations: int
    failed_validations: int
    heartbeats: int
    unique_devices: int
    used_licenses: int
    daily: list[DailyUsage]
    licenses: list[LicenseUse]
    products: list[ProductUse]
    countries: list[CountryUse]
    app_versions: list[VersionUse]
    failure_reasons: list[FailureReason]
    as_of: AsOf


class LicenseStates(msgspec.Struct, kw_only=True):
    """Licences by state: `total` is active, inactive (deactivated) and expired together."""

    total: int
    active: int
    inactive: int
    expired: int
    test: int
    expiring_in_7_days: int
    expiring_in_30_days: int


class Seats(msgspec.Struct, kw_only=True):
    """Seats of all licences, whatever their state."""

    used: int
    allowed: int


class DailySeats(msgspec.Struct, kw_only=True):
    """Seats taken and given up on one day (a transfer is both), the most in use at once, and those at its end."""

    date: str
    activations: int
    deactivations: int
    seats_peak: int
    seats_at_end: int


class HourlyUse(UseCounts, kw_only=True):
    """Use in the hour that begins at `hour`."""

    hour: Timestamp


class LastDay(UseCounts, kw_only=True):
    """The 24 hours of the clock up to and including this one, in all and each."""

    hours: list[HourlyUse]
    failure_reasons: list[FailureReason]


class DevicesSeen(msgspec.Struct, kw_only=True):
    """Devices that were validated or sent a heartbeat; days are 24 hours of the clock each, this one the last."""

    last_24_hours: int
    last_7_days: int
    last_30_days: int


class DashboardAnswer(Covered, kw_only=True):
    """The state of things on one screen. `days`, `since` and `until` are those of the series `daily`."""

    licenses: LicenseStates
    seats: Seats
    daily: list[DailySeats]
    last_24_hours: LastDay
    devices_seen: DevicesSeen
    as_of: AsOf
