"""Two weeks of made-up use of a made-up fleet: office hours, weekends, updates that spread, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from cli.demo_fleet import DAY, USAGE_DAYS, Device, License
from commands.usage_row import Operation, UsageType

_AT_WORK = 0.85
_AT_WORK_ON_SUNDAYS = 0.06
_MINUTES_BETWEEN_BEATS = 25
_STRANGERS = (("RU", 9), ("BR", 8), ("VN", 7), ("IN", 7), ("TR", 4))
"""Where the leaked key is tried, and by how many devices."""


@dataclass(frozen=True, slots=True)
class Use:
    """One row of the usage log before it is sealed. `license` None: a key that nobody has."""

    at: datetime
    type: UsageType
    operation: Operation
    license: License | None
    hardware_id: str
    country: str
    address: str
    device: Device | None = None
    reason: str | None = None
    app_version: str | None = None


def usage(licenses: list[License], seed: int, now: datetime) -> list[Use]:
    """Return all rows in the order in which they would have come."""
    random = Random(seed + 1)  # noqa: S311 - a made-up world, and it shall come out the same again
    rows: list[Use] = []
    for license in licenses:
        for device in license.devices:
            rows.extend(_of_device(random, license, device, now))
        if license.leaked:
            rows.extend(_of_strangers(random, license, now))
    rows.extend(_guesses(random, now))
    rows.sort(key=lambda row: (row.at, row.hardware_id))
    return rows


def first_moment(now: datetime) -> datetime:
    """Return the midnight (UTC) at which the made-up use begins."""
    return now.replace(hour=0, minute=0, second=0, microsecond=0) - (USAGE_DAYS - 1) * DAY


def _of_device(random: Random, license: License, device: Device, now: datetime) -> Iterator[Use]:
    begin, end = device.activated_at, device.ended_at or now
    for day in range(USAGE_DAYS + 1):
        local_midnight = first_moment(now) + day * DAY  # as if local time were UTC
        for local, operation in _sessions(random, device, local_midnight):
            moment = local - license.utc_offset
            if max(begin, first_moment(now)) < moment < min(end, now):
                row = _use(license, device, moment, operation, now)
                yield row
                if row.reason is not None:
                    break  # The program does not start; it tries again another day.


def _sessions(random: Random, device: Device, midnight: datetime) -> Iterator[tuple[datetime, Operation]]:
    """Give the moments of one day (local time) in order: a validation at the start, then heartbeats, now and then."""
    weekend = midnight.weekday() >= 5  # noqa: PLR2004 - Saturday
    if device.runs_always:
        start, hours = midnight + timedelta(minutes=random.randint(0, 59)), 23
    elif random.random() < (_AT_WORK_ON_SUNDAYS if weekend else _AT_WORK):
        start = midnight + timedelta(hours=random.gauss(8.7, 0.8), seconds=random.random())
        hours = random.randint(3, 9)
    else:
        return
    yield start, "validate"
    # Often enough that a working day is one session, seldom enough that making it up takes a few seconds.
    for beat in range(1, hours * 60 // _MINUTES_BETWEEN_BEATS):
        moment = start + timedelta(minutes=beat * _MINUTES_BETWEEN_BEATS, seconds=random.uniform(-90, 90))
        yield moment, "validate" if beat % 9 == 0 else "heartbeat"


def _use(license: License, device: Device, moment: datetime, operation: Operation, now: datetime) -> Use:
    reason = license.refusal_at(moment)
    if reason is not None:
        type_: UsageType = "license.validation.failed"
        operation = "validate"
    else:
        type_ = "device.heartbeat" if operation == "heartbeat" else "license.validated"
    return Use(
        at=moment,
        type=type_,
        operation=operation,
        license=license,
        hardware_id=device.hardware_id,
        country=license.country,
        address=device.address,
        device=device,
        reason=reason,
        app_version=_version(license, device, moment, now),
    )


def _version(license: License, device: Device, moment: datetime, now: datetime) -> str:
    age = (now - moment).days + device.lag
    return next((v for days, v in reversed(license.product.versions) if days >= age), license.product.versions[0][1])


def _of_strangers(random: Random, license: License, now: datetime) -> Iterator[Use]:
    """The leaked key on devices all over the world: no seat is free for them."""
    for country, count in _STRANGERS:
        for _ in range(count):
            hardware_id = "HW-" + random.randbytes(10).hex().upper()
            address = f"100.{random.randint(64, 127)}.{random.randint(0, 255)}.{random.randint(2, 254)}"
            for _ in range(random.randint(1, 4)):
                yield Use(
                    at=now - random.random() * 4 * DAY,
                    type="license.validation.failed",
                    operation=random.choice(("validate", "activate")),
                    license=license,
                    hardware_id=hardware_id,
                    country=country,
                    address=address,
                    reason="DEVICE_LIMIT_EXCEEDED",
                    app_version=license.product.versions[-1][1],
                )


def _guesses(random: Random, now: datetime) -> Iterator[Use]:
    """Mistyped keys, and somebody who guesses."""
    for _ in range(60):
        yield Use(
            at=now - random.random() * (USAGE_DAYS - 1) * DAY,
            type="license.validation.failed",
            operation="validate",
            license=None,
            hardware_id="HW-" + random.randbytes(10).hex().upper(),
            country=random.choice(("DE", "FR", "US", "RU")),
            address=f"100.{random.randint(64, 127)}.{random.randint(0, 255)}.{random.randint(2, 254)}",
            reason="LICENSE_NOT_FOUND",
        )
