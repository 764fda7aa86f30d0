"""Reading a history from files: lines of JSON become licences' terms, and observations in the order of their time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from cli.errors import Failure
from domain.anomalies.countries import Place
from domain.anomalies.observation import LicenseTerms, Observation
from infra.network import IPV6_CUSTOMER_BITS, country_of, prefix
from infra.places import Places, rounded

DISORDER_SECONDS = 300.0
"""How much earlier than the line before a line may be; else all lines are put in order first."""
_ADDRESSES = 1 << 16
_BYTES_A_STEP = 1 << 20
_LINES_A_STEP = 4096

Advance = Callable[[int], None]
"""Is told of bytes that were dealt with."""


class _LicenseLine(msgspec.Struct, gc=False):
    license_id: str
    max_devices: int | None = None
    floating: bool | None = None
    expires_at: datetime | None = None


class _UsageLine(msgspec.Struct, gc=False):
    time: datetime
    type: str
    license_id: str | None = None
    hardware_id: str | None = None
    ip: str | None = None
    country: str | None = None
    app_version: str | None = None
    os: str | None = None
    reason: str | None = None
    client_time: datetime | None = None
    key_hash: str | None = None
    id: str | None = None
    operation: str | None = None
    from_hardware_id: str | None = None
    max_devices: int | UnsetType = UNSET
    floating: bool | UnsetType = UNSET
    expires_at: datetime | UnsetType | None = UNSET


class OutOfOrder(Exception):
    """A line is too much earlier than one before it."""


class _Origin(NamedTuple):
    """Of an address: its network, what one customer has of IPv6, and where the database says that it is."""

    network: str
    block: str | None
    country: str | None
    place: Place | None


class Reader:
    """Reads the two files of a history.

    Where a line has no country, it is that of its address: by `places`, else by the countries that come with the
    program. A city comes from `places` alone, and only where its country is the line's: what contradicts the line,
    such as a database of another year, says nothing.
    """

    def __init__(self, places: Places | None) -> None:
        """Take the database that GEO_DATABASE names, if any."""
        self._places = places
        self._origin: Callable[[str], _Origin] = lru_cache(_ADDRESSES)(self._look_up)

    def lines(self, path: Path, advance: Advance) -> Iterator[Observation]:
        """Read line by line. Raises OutOfOrder where one is too early, Failure for one that can't be read."""
        decode = msgspec.json.Decoder(_UsageLine).decode
        latest, size = 0.0, 0
        with path.open("rb", buffering=_BYTES_A_STEP) as stream:
            for number, raw in enumerate(stream, 1):
                size += len(raw)
                if size >= _BYTES_A_STEP:
                    advance(size)
                    size = 0
                try:
                    line = decode(raw)
                except msgspec.MsgspecError:
                    if not raw.strip():
                        continue
                    line = _repaired(raw, path, number)
                seen = self._observation(line, number)
                if seen.time > latest:
                    latest = seen.time
                elif seen.time < latest - DISORDER_SECONDS:
                    raise OutOfOrder
                yield seen
        advance(size)

    def in_order(self, path: Path, advance: Advance) -> Iterator[Observation]:
        """Read all lines first, then give them in the order of their time; those of one time as in the file.

        `advance` is told when they are given. Raises Failure for a line that can't be read.
        """
        found, size = [], 0
        decoder = msgspec.json.Decoder(_UsageLine)
        with path.open("rb") as stream:
            for number, raw in enumerate(stream, 1):
                size += len(raw)
                if not raw.strip():
                    continue
                try:
                    line = decoder.decode(raw)
                except msgspec.MsgspecError:
                    line = _repaired(raw, path, number)
                found.append(self._observation(line, number))
        found.sort(key=lambda seen: seen.time)
        told = 0
        for number, seen in enumerate(found, 1):
            yield seen
            if number % _LINES_A_STEP == 0 or number == len(found):
                advance(size * number // len(found) - told)
                told = size * number // len(found)

    def _observation(self, line: _UsageLine, number: int) -> Observation:
        license_id, ip, country, client_time = line.license_id, line.ip, line.country, line.client_time
        network = block = place = None
        if ip:
            network, block, known, place = self._origin(ip)
            if country is None:
                country = known or _assigned(ip)
            elif known is not None and known != country:
                place = None
        return Observation(
            _seconds(line.time),
            line.type,
            line.id or f"line {number}",
            license_id,
            line.hardware_id,
            network,
            ip if license_id is None else None,
            country,
            place,
            line.app_version,
            line.os,
            line.reason,
            _seconds(client_time) if client_time is not None else None,
            line.key_hash,
            line.operation,
            line.from_hardware_id,
            _changed_terms(line) if line.type in _TERMS else None,
            block,
        )

    def _look_up(self, ip: str) -> _Origin:
        address = _address(ip)
        if address is None:
            return _Origin(ip, None, None, None)
        network = network_of(address)
        block = prefix(address, IPV6_CUSTOMER_BITS) if isinstance(address, IPv6Address) else None
        found = self._places.of(address) if self._places is not None and address.is_global else None
        if found is None:
            return _Origin(network, block, None, None)
        if found.latitude is None or found.longitude is None:
            return _Origin(network, block, found.country, None)
        return _Origin(network, block, found.country, rounded(found.latitude, found.longitude))


def terms(path: Path) -> Iterator[tuple[str, LicenseTerms]]:
    """Read what licences allow, by their ids. Raises Failure for a line that can't be read."""
    decoder = msgspec.json.Decoder(_LicenseLine)
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            if not raw.strip():
                continue
            try:
                line = decoder.decode(raw)
            except msgspec.MsgspecError as error:
                raise Failure(f"{path} line {number}: {error}") from None
            yield (
                line.license_id,
                LicenseTerms(
                    max_devices=UNSET if line.max_devices is None else line.max_devices,
                    floating=UNSET if line.floating is None else line.floating,
                    expires_at=None if line.expires_at is None else _seconds(line.expires_at),
                ),
            )


def network_of(address: IPv4Address | IPv6Address) -> str:
    """Return the first three bytes of an IPv4 address, six of an IPv6 address."""
    if isinstance(address, IPv4Address):
        return str(address).rpartition(".")[0]
    return address.exploded[:14] + "::"


def _address(ip: str) -> IPv4Address | IPv6Address | None:
    try:
        address: IPv4Address | IPv6Address = ip_address(ip)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@lru_cache(_ADDRESSES)
def _assigned(ip: str) -> str | None:
    address = _address(ip)
    return country_of(address) if address is not None else None


def _repaired(raw: bytes, path: Path, number: int) -> _UsageLine:
    """Read a line whose device's clock says what is no time; a clock may say anything. Raises Failure."""
    try:
        fields: Any = msgspec.json.decode(raw)
        if isinstance(fields, dict) and "client_time" in fields:
            fields["client_time"] = None
        return msgspec.convert(fields, _UsageLine)
    except msgspec.MsgspecError as error:
        raise Failure(f"{path} line {number}: {error}") from None


_TERMS = frozenset({"license.issued", "license.updated"})


def _changed_terms(line: _UsageLine) -> LicenseTerms:
    expires_at = line.expires_at
    return LicenseTerms(
        max_devices=line.max_devices,
        floating=line.floating,
        expires_at=_seconds(expires_at) if isinstance(expires_at, datetime) else expires_at,
    )


def _seconds(time: datetime) -> float:
    """Return seconds since 1970; a time without a zone is in UTC."""
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()
