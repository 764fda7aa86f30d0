"""Where an address is, by a database in the MMDB format: GeoLite2, DB-IP Lite and others with the same records."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from pathlib import Path
from typing import Any

import maxminddb

log = logging.getLogger(__name__)

NOT_COUNTRIES = frozenset({"EU", "AP", "ZZ"})
"""Codes that databases give where they don't know: a continent, a region, nothing."""

_COUNTRY = re.compile("[A-Z]{2}")
_SAMPLE = 1000
"""Records in which at least one country is looked for. A database of cities or countries has one in nearly each."""


class GeoDatabaseError(ValueError):
    """The file can't be used. The message is one line that says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the database says; None where it does not. `country` is ISO 3166-1 alpha-2, coordinates are in degrees."""

    country: str | None
    city: str | None
    latitude: float | None
    longitude: float | None


class Places:
    """An open database. It is mapped into memory, so it costs hardly any, whatever its size."""

    def __init__(self, path: Path) -> None:
        """Open and check it. Raises GeoDatabaseError."""
        try:
            self._reader = maxminddb.open_database(path)
        except OSError as error:
            raise GeoDatabaseError(f"the file can't be read ({type(error).__name__})") from None
        except (maxminddb.InvalidDatabaseError, TypeError, ValueError):
            # The reader for an odd file: TypeError for metadata of another shape, ValueError for an empty file.
            raise GeoDatabaseError("the file is no MMDB database") from None
        try:
            self._check()
        except GeoDatabaseError:
            self._reader.close()
            raise

    def _check(self) -> None:
        try:
            countries = any(_place(record).country for _, record in islice(self._reader, _SAMPLE))
        except (maxminddb.InvalidDatabaseError, ValueError):
            raise GeoDatabaseError("the file is a damaged MMDB database") from None
        if not countries:
            raise GeoDatabaseError("the file is an MMDB database without countries (`country.iso_code`)")

    def of(self, address: IPv4Address | IPv6Address) -> Place | None:
        """Look an address up; None where the database has nothing about it."""
        if address.version > self._reader.metadata().ip_version:  # a database of IPv4 alone
            return None
        try:
            record = self._reader.get(address)
        except maxminddb.InvalidDatabaseError:
            # No request fails for it; the caller remembers its last 8,192 addresses, so that this is not every time.
            log.warning("GEO_DATABASE is damaged: an address could not be looked up")
            return None
        return _place(record) if record is not None else None

    def close(self) -> None:
        """Give the file back."""
        self._reader.close()


def rounded(latitude: float, longitude: float) -> tuple[float, float]:
    """Return about where that is, to half a degree: enough to tell cities 500 km apart, and nobody's street."""
    return round(latitude * 2) / 2, round(longitude * 2) / 2


def _place(record: Any) -> Place:
    country = _within(record, "country", "iso_code")
    city = _within(record, "city", "names", "en")
    return Place(
        country=country if _is_country(country) else None,
        city=city if isinstance(city, str) and city else None,
        latitude=_degrees(_within(record, "location", "latitude")),
        longitude=_degrees(_within(record, "location", "longitude")),
    )


def _within(record: Any, *names: str) -> Any:
    for name in names:
        record = record.get(name) if isinstance(record, dict) else None
    return record


def _is_country(code: Any) -> bool:
    return isinstance(code, str) and _COUNTRY.fullmatch(code) is not None and code not in NOT_COUNTRIES


def _degrees(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
