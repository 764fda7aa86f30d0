"""Anomalies as users meet them: recorded about licences that there are, or brought about by what programs send."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec

from infra.postgres import Database
from tests.support.anomalies import detected, recording
from tests.support.client import Client, eventually

AT_ONCE = 40


def record(
    database: Database,
    license: dict[str, Any] | None,
    *,
    found_at: datetime | None = None,
    subject_id: UUID | None = None,
    **fields: Any,
) -> str:
    """Record that something was found, now if not otherwise said, and return the anomaly's id.

    It is about a licence, and its customer's key seals, or about an address.
    """
    anomaly_id, now = uuid4(), datetime.now(UTC)
    if license is not None:
        subject_id = subject_of(database, license)
        fields = {"kind": "leaked_key", "license_id": UUID(license["license_id"]), **fields}
    event = detected(anomaly_id, **fields)
    fact = msgspec.structs.replace(event.fact, found_at=found_at or now)
    with recording(database) as append:
        append(msgspec.structs.replace(event, occurred_at=now, subject_id=subject_id, fact=fact))
    return str(anomaly_id)


def subject_of(database: Database, license: dict[str, Any]) -> UUID:
    """Return the data subject of a licence."""
    with database.connect() as connection:
        query = "SELECT subject_id FROM licenses WHERE license_id = %s"
        row = connection.execute(query, (license["license_id"],)).fetchone()
    assert row is not None
    subject_id: UUID = row["subject_id"]
    return subject_id


async def hammer(client: Client, license: dict[str, Any], hardware_id: str, count: int) -> None:
    """Validate a device many times in no time."""
    for start in range(0, count, AT_ONCE):
        calls = (client.validate(license, hardware_id) for _ in range(min(AT_ONCE, count - start)))
        assert {reply.status for reply in await asyncio.gather(*calls)} == {200}


async def guess(client: Client) -> dict[str, Any]:
    """Try keys that nobody has until the worker has recorded it; return the anomaly as administrators see it."""
    for number in range(17):
        unknown = {"license_key": f"LIC-GUESS{number:07d}"}
        assert (await client.validate(unknown, "guesser")).status == 404
    # A later event shows the worker that nothing older is to come: it need not wait for that.
    await client.new_license(customer_id="later")

    async def recorded() -> dict[str, Any] | None:
        reply = await client.admin("GET", "/anomalies?kind=key_guessing&per_page=100")
        return next((one for one in reply["anomalies"] if one["address"] == client.address), None)

    anomaly: dict[str, Any] = await eventually(recorded, 60)
    return anomaly
