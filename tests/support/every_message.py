"""Makes the service write a row of every type, and publishes what is in the logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from commands.event_mapper import decoder
from domain.anomalies.thresholds import DEFAULT
from infra.postgres import Database
from tests.support.anomalies import change_thresholds
from tests.support.client import Client, Reply, eventually
from workers.relay import Relay

KEYS_NOBODY_HAS = tuple(f"LIC-ZZZZZZZZZZZ{last}" for last in "ABCDEFGHJKLMNPQ")
"""Enough for an alert."""
PERSONAL = (
    "ann@example.com",
    "Büro-PC",
    "Zoës Mac",
    "acme-4711",
    "gone-4711",
    "Windows",
    "203.0.113.7",
    "left us",
    "note to self",
)
"""Texts that are in what is sent below, and must not be in a message."""

DETECTION_SECONDS = 60.0
"""Much more than rows wait for their turn."""


async def everything_happens(client: Client, database: Database) -> dict[str, Any]:
    """Send requests until a row of every type is there; return the licence they were about."""
    license = await _terms_change(client)
    await _keys_are_guessed(client)
    await _devices_come_and_go(client, license)
    await _it_is_used(client, license)
    await _it_is_revoked_for_a_while(client, license)
    key_id = (await client.new_api_key(client_name="Planwerk 2", product="Planwerk", requests_per_minute=60))["key_id"]
    secret = client.secrets.admin_secret
    await _done(client.request("DELETE", f"/api/v1/auth/api-keys/{key_id}", x_admin_secret=secret))
    await _an_anomaly_is_dismissed(client)
    await asyncio.to_thread(change_thresholds, database, hammer_run=DEFAULT.hammer_run + 1)
    await client.new_license(customer_id="gone-4711", email="ann@example.com")
    await _done(client.admin("POST", "/customers/gone-4711/erase", {"reason": "left us"}))
    return license


async def _terms_change(client: Client) -> dict[str, Any]:
    license = await client.new_license(
        customer_id="acme-4711",
        email="ann@example.com",
        product="Planwerk",
        edition="pro",
        features=["export"],
        expires_in_days=30,
        metadata={"note": "note to self"},
    )
    changed = {"max_devices": 5, "expires_at": None, "product": None}
    await _done(client.admin("PATCH", f"/licenses/{license['license_id']}", changed))
    return license


async def _devices_come_and_go(client: Client, license: dict[str, Any]) -> None:
    path = f"/licenses/{license['license_id']}"
    fields = {
        "device_name": "Büro-PC",
        "os_info": {"name": "Windows", "version": "10"},
        "app_version": "2.4.1",
        "client_time": "2026-03-01T13:07:29+01:00",
    }
    await _done(client.activate(license, "pc", fields=fields))
    # In the second dialect a repeated activation is no error, and may tell another name.
    again = {"email": "ann@example.com", "license_key": license["license_key"], "device_hash": "pc"}
    await _done(client.b_client("POST", "/activate", {**again, "device_name": "Zoës Mac"}))
    await _done(client.admin("POST", f"{path}/transfer", {"from_hardware_id": "pc", "to_hardware_id": "mac"}))
    await _done(client.admin("POST", f"{path}/devices/deactivate", {"hardware_id": "mac", "reason": "left us"}))
    await _done(client.activate(license, "linux"))


async def _it_is_used(client: Client, license: dict[str, Any]) -> None:
    await _done(client.validate(license, "linux", fields={"app_version": "2.4.1"}))
    token = (await client.tokens(license, "linux"))["access_token"]
    session = {"session_data": {"app_version": "2.5", "client_time": "2026-01-01T00:00:00Z", "user": "Zoës Mac"}}
    await _done(client.bearer("/api/v1/license/heartbeat", token, session))


async def _keys_are_guessed(client: Client) -> None:
    for key in KEYS_NOBODY_HAS:
        assert (await client.validate({"license_key": key}, "linux")).status == 404


async def _an_anomaly_is_dismissed(client: Client) -> None:
    """Wait until the service's own worker has found the guessing; what came after it lets it look at once."""

    async def found() -> Any:
        return (await client.admin("GET", "/anomalies"))["anomalies"]

    (anomaly,) = await eventually(found, DETECTION_SECONDS)
    await _done(client.admin("POST", f"/anomalies/{anomaly['anomaly_id']}/dismiss", {"reason": "left us"}))


async def _it_is_revoked_for_a_while(client: Client, license: dict[str, Any]) -> None:
    path = f"/licenses/{license['license_id']}"
    await _done(client.admin("DELETE", path))
    assert (await client.validate(license, "linux")).status == 403
    assert (await client.activate(license, "other")).status == 403
    await _done(client.admin("PATCH", path, {"is_active": True}))


async def _done(request: Any) -> Reply:
    reply: Reply = await request
    assert reply.status in {200, 201}, reply
    return reply


@asynccontextmanager
async def relaying(database: Database, url: str, instance: str) -> AsyncIterator[Relay]:
    """Run a relay in this process."""
    relay = Relay(partial(database.connect_async_worker, "relay"), url, decoder(), instance)
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def rows(database: Database) -> int:
    """Return how many rows both logs have."""
    with database.connect() as connection:
        found = connection.execute(
            "SELECT (SELECT count(*) FROM licensing_events) + (SELECT count(*) FROM usage) AS rows"
        ).fetchone()
    assert found is not None
    count: int = found["rows"]
    return count
