"""All that is stored of a person, opened: licences, devices, events, uses, anomalies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from api.customers import Customer
from api.presentation import admin_anomaly_answer, device_answer, event_answer, license_fields, opened
from api.schemas.anomalies import AdminAnomalyAnswer
from api.schemas.customers import ExportedEvent, ExportedLicense, ExportedUse
from domain.facts import Recorded
from infra.vault import Vault
from projections import anomalies, customers, devices, licenses
from projections.licenses import LicenseRow

PAGE = 1_000
"""Rows of each log on a page."""

LICENSES_PAGE = 100
"""Licences on a page: each is read with its devices."""

AT_ONCE = 100
"""Rows that are opened before others have their turn: some milliseconds' work."""

T = TypeVar("T")
Shown = TypeVar("Shown")
Decode = Callable[[dict[str, Any]], Recorded]


class CustomerExport:
    """Reads on one connection what is stored of one customer. What is damaged is null, and holds up nothing else."""

    def __init__(self, vault: Vault, connection: Any, customer: Customer, decode: Decode) -> None:
        self._vault = vault
        self._connection = connection
        self._customer = customer
        self._decode = decode

    async def open(self) -> None:
        """Have the keys in memory: before anything else."""
        cursor = await self._connection.execute(customers.SUBJECTS, (self._customer.subject_ids,))
        for row in await cursor.fetchall():
            self._vault.take(row["subject_id"], row["wrapped_key"])

    async def licenses(self, after: int) -> list[ExportedLicense]:
        """Return the next licences, each with its devices."""
        subject_ids = self._customer.subject_ids
        rows = await licenses.of_subjects(self._connection, subject_ids, after=after, limit=LICENSES_PAGE)
        return [await self._license(row) for row in rows]

    async def anomalies(self) -> list[AdminAnomalyAnswer]:
        """Return what detection has found of the licences."""
        rows = await anomalies.of_licenses(self._connection, self._customer.license_ids)
        return [admin_anomaly_answer(self._vault, row) for row in rows]

    async def events(self, after: int) -> list[ExportedEvent]:
        """Return the next events of the licences."""
        return await _each(self._event, await self._page(customers.EVENTS, after))

    async def usage(self, after: int) -> list[ExportedUse]:
        """Return the next rows that the usage log has of the licences."""
        return await _each(self._use, await self._page(customers.USAGE, after))

    async def _license(self, row: LicenseRow) -> ExportedLicense:
        used_by = await devices.of_license(self._connection, row.license_id)
        shown = await _each(lambda device: device_answer(self._vault, row.subject_id, device), used_by)
        return ExportedLicense(**license_fields(self._vault, row), position=row.position, devices=shown)

    async def _page(self, query: str, after: int) -> list[dict[str, Any]]:
        wanted = {"licenses": self._customer.license_ids, "after": after, "most": PAGE}
        rows: list[dict[str, Any]] = await (await self._connection.execute(query, wanted)).fetchall()
        return rows

    def _event(self, row: dict[str, Any]) -> ExportedEvent:
        event = self._decode(row)
        shown = event_answer(self._vault, row["notification_id"], event)
        return ExportedEvent(
            **{name: getattr(shown, name) for name in shown.__struct_fields__},
            license_id=event.originator_id,
            address=opened(self._vault, event.subject_id, event.cause.sealed_address),
        )

    def _use(self, row: dict[str, Any]) -> ExportedUse:
        kept = {name: row[name] for name in _KEPT}
        return ExportedUse(
            **kept,
            details=opened(self._vault, row["subject_id"], row["details_sealed"]),
            session=opened(self._vault, row["subject_id"], row["session_sealed"]),
        )


_KEPT: Sequence[str] = [
    field.name for field in msgspec.structs.fields(ExportedUse) if field.name not in {"details", "session"}
]


async def _each(show: Callable[[T], Shown], rows: Sequence[T]) -> list[Shown]:
    """Show rows, and give others their turn in between."""
    shown: list[Shown] = []
    for start in range(0, len(rows), AT_ONCE):
        shown += map(show, rows[start : start + AT_ONCE])
        await asyncio.sleep(0)
    return shown
