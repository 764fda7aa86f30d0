"""Filling a database with a made-up fleet, through the same orders and rows as real use."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID, uuid4

from psycopg.sql import SQL, Identifier

from api.issuing import Wanted, prepare
from api.usage_details import UsageDetails
from cli import demo_fleet
from cli.core import Workbench
from cli.demo_usage import Use, first_moment, usage
from cli.output import progress
from commands.orders import (
    ActivateDevice,
    CreateApiKey,
    DeactivateDevice,
    DeactivateLicense,
    IssueLicenses,
    LicenseToIssue,
    Order,
    TransferSeat,
    UpdateLicense,
)
from commands.usage_connection import USAGE_LOCK
from commands.usage_row import COLUMNS, usage_line
from domain.api_key import DEFAULT_ENDPOINTS
from domain.issuing import Changes
from domain.seats import Device
from infra.api_secrets import digest, new_api_key
from infra.network import HASH_BYTES

T = TypeVar("T")

ORDERS = 256
ROWS = 5_000

_COPY = SQL("COPY usage ({}) FROM STDIN").format(SQL(", ").join(map(Identifier, COLUMNS)))


@dataclass(frozen=True, slots=True)
class Filled:
    """How much was made."""

    licenses: int
    devices: int
    orders: int
    usage_rows: int


async def fill(bench: Workbench, seed: int, count: int) -> Filled:
    """Make up a fleet and write it."""
    now = bench.clock.now()
    plan = demo_fleet.fleet(seed, now, count)
    rows = usage(plan, seed, now)
    issued = await _prepared(bench, plan)
    keys = _api_keys(bench, plan)
    orders = sorted([*keys.values(), *_orders(bench, plan, issued)], key=lambda order: order.now)
    with progress("Making up licences and use", len(orders) + len(rows)) as advance:
        for some in _batches(orders, ORDERS):
            # Made in one go, the tasks reach the writer in this order.
            await asyncio.gather(*(bench.execute(order) for order in some))
            advance(len(some))
        key_ids = {name: key.key_id for name, key in keys.items()}
        ids = {id(one): to for one, to in zip(plan, issued, strict=True)}
        await bench.connection.execute("SELECT ensure_usage_partitions(%s, %s)", (first_moment(now).date(), now.date()))
        await _store_usage(bench, rows, _Encoder(bench, ids, key_ids), advance)
    return Filled(len(plan), sum(len(license.devices) for license in plan), len(orders), len(rows))


async def _prepared(bench: Workbench, plan: list[demo_fleet.License]) -> list[LicenseToIssue]:
    wanted = [
        Wanted(
            customer_id=license.customer_id,
            email=license.email,
            max_devices=license.max_devices,
            expires_at=license.expires_at,
            features=license.product.features[license.edition],
            is_test=license.is_test,
            metadata={"order": f"SO-{4000 + number}"},
            product=license.product.name,
            edition=license.edition,
            floating=license.floating,
        )
        for number, license in enumerate(plan)
    ]
    prepared = await prepare(bench.vault, bench.subjects, bench.connection, wanted, bench.clock.now())
    return [license for license, _ in prepared]


def _api_keys(bench: Workbench, plan: list[demo_fleet.License]) -> dict[str, CreateApiKey]:
    """Return an order for each product's API key. Nobody learns the keys; they are there to be looked at."""
    begin = min(license.created_at for license in plan)
    return {
        product.name: CreateApiKey(
            cause=bench.cause(CreateApiKey),
            now=begin,
            key_id=uuid4(),
            key_digest=digest(new_api_key()),
            client_name=f"{product.name} desktop",
            allowed_endpoints=DEFAULT_ENDPOINTS,
            requests_per_minute=None,
            requests_per_hour=None,
            product=product.name,
        )
        for product in demo_fleet.PRODUCTS
    }


def _orders(bench: Workbench, plan: list[demo_fleet.License], issued: list[LicenseToIssue]) -> Iterator[Order]:
    for license, to_issue in zip(plan, issued, strict=True):
        yield IssueLicenses(cause=bench.cause(IssueLicenses), now=license.created_at, licenses=(to_issue,))
        yield from _term_orders(bench, license, to_issue)
        for device in license.devices:
            yield from _device_orders(bench, license, device, to_issue)


def _term_orders(bench: Workbench, license: demo_fleet.License, issued: LicenseToIssue) -> Iterator[Order]:
    def update(now: datetime, **changes: Any) -> UpdateLicense:
        cause = bench.cause(UpdateLicense)
        return UpdateLicense(cause=cause, now=now, license_id=issued.license_id, changes=Changes(**changes))

    if license.renewed_at:
        yield update(license.renewed_at, expires_at=license.renewed_until)
    if license.revoked_at:
        sealed = {"reason": bench.vault.seal(issued.subject_id, "the payment was returned")}
        cause = bench.cause(DeactivateLicense)
        yield DeactivateLicense(cause=cause, now=license.revoked_at, license_id=issued.license_id, sealed=sealed)
    if license.restored_at:
        yield update(license.restored_at, is_active=True)


def _device_orders(
    bench: Workbench, license: demo_fleet.License, device: demo_fleet.Device, issued: LicenseToIssue
) -> Iterator[Order]:
    vault, subject_id, license_id = bench.vault, issued.subject_id, issued.license_id
    if device.hardware_id not in {other.successor for other in license.devices}:
        os_info = {"name": device.os, "version": device.os_version}
        taking = Device(
            hardware_id=device.hardware_id,
            name_tag=vault.tag(subject_id, device.name),
            sealed={"device_name": vault.seal(subject_id, device.name), "os_info": vault.seal(subject_id, os_info)},
            client_time=device.activated_at + device.skew,
        )
        cause = bench.cause(ActivateDevice)
        yield ActivateDevice(cause=cause, now=device.activated_at, license_id=license_id, device=taking)
    if device.ended_at and device.successor:
        yield TransferSeat(
            cause=bench.cause(TransferSeat),
            now=device.ended_at,
            license_id=license_id,
            from_hardware_id=device.hardware_id,
            to_hardware_id=device.successor,
            sealed={"reason": vault.seal(subject_id, "replaced by a new machine")},
        )
    elif device.ended_at:
        yield DeactivateDevice(
            cause=bench.cause(DeactivateDevice),
            now=device.ended_at,
            license_id=license_id,
            hardware_id=device.hardware_id,
        )


async def _store_usage(bench: Workbench, rows: Sequence[Use], encode: _Encoder, advance: Callable[[int], None]) -> None:
    connection = bench.connection
    for some in _batches(rows, ROWS):
        lines = [await encode.line(row) for row in some]
        async with connection.transaction():
            # As the usage log's own writer does, so that a reader that pages by id skips nothing.
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (USAGE_LOCK,))
            async with connection.cursor().copy(_COPY) as copy:
                await copy.write(b"".join(lines))
        advance(len(some))


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


class _Encoder:
    """Turns made-up use into rows of the log; what is equal from row to row is made once."""

    def __init__(self, bench: Workbench, issued: dict[int, LicenseToIssue], key_ids: dict[str, UUID]) -> None:
        self._bench = bench
        self._issued = issued
        self._key_ids = key_ids
        self._details = UsageDetails(bench.vault)
        self._os_info: dict[str, bytes] = {}
        self._networks: dict[str, bytes] = {}

    async def line(self, row: Use) -> bytes:
        """Return the row as COPY takes it."""
        device, license = row.device, row.license
        if license is None:
            return await self._unknown(row)
        issued = self._issued[id(license)]
        os_info = self._sealed_os(issued.subject_id, device) if device else None
        return usage_line(
            occurred_at=row.at,
            type=row.type,
            operation=row.operation,
            license_id=issued.license_id,
            subject_id=issued.subject_id,
            hardware_id=row.hardware_id,
            api_key_id=None if row.operation == "heartbeat" else self._key_ids[license.product.name],
            reason=row.reason,
            app_version=row.app_version,
            client_time=row.at + device.skew if device else row.at,
            country=row.country,
            network=self._network(row.address),
            details_sealed=self._details.seal(issued.subject_id, row.address, os_info_sealed=os_info),
        )

    async def _unknown(self, row: Use) -> bytes:
        subject_id = await self._bench.subjects.of_day(self._bench.connection, row.at.date())
        return usage_line(
            occurred_at=row.at,
            type=row.type,
            operation=row.operation,
            key_digest=hashlib.sha256(row.hardware_id.encode()).digest(),
            subject_id=subject_id,
            hardware_id=row.hardware_id,
            reason=row.reason,
            country=row.country,
            network=self._network(row.address),
            details_sealed=self._details.seal(subject_id, row.address),
        )

    def _sealed_os(self, subject_id: UUID, device: demo_fleet.Device) -> bytes:
        if device.hardware_id not in self._os_info:
            os_info = {"name": device.os, "version": device.os_version}
            self._os_info[device.hardware_id] = self._bench.vault.seal(subject_id, os_info)
        return self._os_info[device.hardware_id]

    def _network(self, address: str) -> bytes:
        network = f"{address.rpartition('.')[0]}.0/24"
        if network not in self._networks:
            self._networks[network] = self._bench.vault.lookup_hash("network", network)[:HASH_BYTES]
        return self._networks[network]
