"""A small history in the form of an export: an office, a key that leaks, and somebody who guesses keys."""

from __future__ import annotations

import hashlib
from typing import Any

from bench.fleet.lines import Line, moment
from tests.support.fleet_logs import BEGIN, in_order

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
LEAKED = "6f1c8d0e-5b1d-4e0c-8a35-0d3a5f7c2b90"
ORDINARY = "0a0e5a52-3b57-4c53-9a0b-5d2f2f7a1c11"
GUESSER = "203.0.113.66"
COUNTRIES = ("RU", "BR", "VN", "IN", "TR", "MX", "ID", "UA", "PL", "RO", "EG", "NG", "PK", "TH", "AR", "CL")


def small_history() -> list[Line]:
    """Return about 600 lines of nine days, in order of time."""
    lines = [_issued(LEAKED, 2), _issued(ORDINARY, 3)]
    for license_id in (LEAKED, ORDINARY):
        for number in range(2):
            lines += office_days(license_id, f"pc-{license_id[0]}-{number}", "198.51.100.7")
    lines += [activated(3.4, ORDINARY, "pc-new", "198.51.100.8"), line(5.2, "device.deactivated", ORDINARY, "pc-new")]
    lines += strangers(LEAKED, 6.0, 14)
    lines += guesses(GUESSER, 3.3, 40)
    lines += guesses("203.0.113.1", 4.0, 3)
    return in_order(lines)


def line(
    day: float, type: str, license_id: str | None, hardware_id: str | None, ip: str | None = None, **more: Any
) -> Line:
    """Return a line of so many days after the beginning."""
    fields: dict[str, Any] = {
        "country": "DE" if ip else None,
        "app_version": "5.1.0" if ip else None,
        "os": None,
        **more,
    }
    time = moment(BEGIN + day * DAY)
    return Line(time=time, type=type, license_id=license_id, hardware_id=hardware_id, ip=ip, **fields)


def activated(day: float, license_id: str, hardware_id: str, ip: str) -> Line:
    """A device gets a seat."""
    return line(day, "license.activated", license_id, hardware_id, ip, os="Windows 11")


def office_days(license_id: str, hardware_id: str, ip: str, days: int = 9) -> list[Line]:
    """A device is used from nine to five."""
    return [
        line(
            day + hour / 24 + len(hardware_id) * 1e-5,
            "device.heartbeat" if hour > 9 else "license.validated",
            license_id,
            hardware_id,
            ip,
            os="Windows 11",
        )
        for day in range(days)
        for hour in range(9, 17)
    ]


def strangers(
    license_id: str, day: float, count: int, first: int = 0, countries: tuple[str, ...] = COUNTRIES
) -> list[Line]:
    """Unknown devices in unknown networks are refused, one each two hours; `first` numbers them."""
    return [
        line(
            day + (number - first) / 12,
            "license.validation.failed",
            license_id,
            f"stranger-{number}",
            f"100.{64 + number}.0.9",
            country=countries[number % len(countries)],
            reason="DEVICE_LIMIT_EXCEEDED",
        )
        for number in range(first, first + count)
    ]


def guesses(ip: str, day: float, count: int, name: str = "guess") -> list[Line]:
    """An address sends keys that nobody has, one a minute."""
    return [
        line(
            day + number * MINUTE / DAY,
            "license.validation.failed",
            None,
            "guessing-pc",
            ip,
            country="RU",
            reason="LICENSE_NOT_FOUND",
            key_hash=hashlib.sha256(f"{ip} {name} {number}".encode()).hexdigest(),
        )
        for number in range(count)
    ]


def _issued(license_id: str, max_devices: int) -> Line:
    issued = line(-100, "license.issued", license_id, None)
    issued.max_devices = max_devices
    return issued
