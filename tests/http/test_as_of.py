"""A licence and its devices as of any position are what the test's own fold of the log up to it says."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from api.schemas.common import rfc3339
from api.services import Services
from commands.recorder import EVENTS_LOCK
from infra.vault import Vault
from tests.support.client import Client
from tests.support.random_life import RandomLife
from tests.support.seat_fold import Event, Row, SeatFold, event_of

POSITIONS = int(os.environ.get("AS_OF_POSITIONS", "200"))
STEPS = POSITIONS * 3
EVENTS = "SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events ORDER BY 1"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def life(service: tuple[Services, Client]) -> RandomLife:
    """Let much happen to a dozen licences."""
    life = RandomLife(service[1], seed=7)
    await life.begin(10)
    for _ in range(STEPS):
        reply = await life.step()
        assert reply.status < 500, reply
    return life


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def events(service: tuple[Services, Client], life: RandomLife) -> list[Event]:
    """Read the whole log."""
    async with service[0].pool.connection() as connection:
        return [event_of(row) for row in await (await connection.execute(EVENTS)).fetchall()]


async def test_any_position(client: Client, services: Services, life: RandomLife, events: list[Event]) -> None:
    random, fold, compared = Random(1), SeatFold(), 0
    chosen = sorted(random.choices(range(len(events)), k=POSITIONS))
    done = 0
    for index in chosen:
        for event in events[done : index + 1]:
            fold.apply(event)
        done = index + 1
        last = events[index].aggregate
        others = random.choice(life.licenses)["license_id"]
        for license_id in {last if last in fold.licenses else UUID(others), UUID(others)}:
            await same_as_the_fold(client, services.vault, fold, license_id, str(events[index].position))
            compared += 1
    assert fold.findings == []
    assert compared >= POSITIONS
    kinds = {event.topic for event in events[: chosen[-1] + 1]}
    assert kinds >= {f"license.{name}" for name in ("issued", "updated", "activated", "deactivated", "reactivated")}
    assert kinds >= {"license.transferred", "device.deactivated", "device.renamed"}
    assert {event.topic for event in events if event.data.get("undoes")} == {
        "license.reactivated",
        "license.transferred",
    }


async def same_as_the_fold(client: Client, vault: Vault, fold: SeatFold, license_id: UUID, as_of: str) -> None:
    shown = await client.admin("GET", f"/licenses/{license_id}?as_of={as_of}")
    devices = await client.admin("GET", f"/licenses/{license_id}/devices?as_of={as_of}")
    row = fold.licenses.get(license_id)
    if row is None:
        assert (shown.status, shown["error_code"]) == (404, "LICENSE_NOT_FOUND")
        assert (devices.status, devices["error_code"]) == (404, "LICENSE_NOT_FOUND")
        return
    assert shown.body.pop("as_of") == devices.body.pop("as_of")
    assert shown.body == expected_license(vault, row)
    held = [device for (of, _), device in fold.devices.items() if of == license_id]
    held.sort(key=lambda device: (device["activated_at"], device["hardware_id"]))
    assert devices.body == {
        "devices": [expected_device(vault, row["subject_id"], device) for device in held],
        "personal_data": "readable",
    }


def expected_license(vault: Vault, row: Row) -> dict[str, Any]:
    plain = ("product", "edition", "max_devices", "current_devices", "features", "is_active", "is_test", "floating")
    return {
        "license_id": str(row["license_id"]),
        "license_key": vault.open_secret(row["key_sealed"]).decode(),
        **{name: opened(vault, row["subject_id"], row[f"{name}_sealed"]) for name in ("customer_id", "email")},
        "metadata": opened(vault, row["subject_id"], row["metadata_sealed"]) or {},
        **{name: row[name] for name in plain},
        **{name: time(row[name]) for name in ("created_at", "expires_at")},
        "personal_data": "readable",
    }


def expected_device(vault: Vault, subject_id: UUID, row: Row) -> dict[str, Any]:
    return {
        "hardware_id": row["hardware_id"],
        **{name: opened(vault, subject_id, row[f"{name}_sealed"]) for name in ("device_name", "os_info")},
        "is_active": row["is_active"],
        **{name: time(row[name]) for name in ("activated_at", "deactivated_at")},
        "last_seen_at": None,
    }


def opened(vault: Vault, subject_id: UUID, sealed: bytes | None) -> Any:
    return None if sealed is None else vault.open(subject_id, sealed)


def time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)


async def test_a_time_means_all_before_the_first_later_event(
    client: Client, services: Services, life: RandomLife, events: list[Event]
) -> None:
    random = Random(2)
    for _ in range(POSITIONS // 5):
        license_id = UUID(life.license()["license_id"])
        own = [event for event in events if event.aggregate == license_id]
        at = random.choice(own).at + random.choice((timedelta(), timedelta(microseconds=1), -timedelta(microseconds=1)))
        fold = SeatFold()
        for event in own:
            if event.at > at:
                break
            fold.apply(event)
        await same_as_the_fold(client, services.vault, fold, license_id, rfc3339(at))


async def test_the_end_of_the_log_is_the_present(client: Client, life: RandomLife, events: list[Event]) -> None:
    as_of = f"?as_of={events[-1].position}"
    for license in life.licenses:
        one = f"/licenses/{license['license_id']}"
        then, now = await client.admin("GET", f"{one}{as_of}"), await client.admin("GET", one)
        assert now.body.keys() - then.body.keys() == {"statistics"}
        assert {name: then[name] for name in now.body if name != "statistics"} == {
            name: value for name, value in now.body.items() if name != "statistics"
        }
        then, now = await client.admin("GET", f"{one}/devices{as_of}"), await client.admin("GET", f"{one}/devices")
        assert then["devices"] == [{**device, "last_seen_at": None} for device in now["devices"]]


@pytest.mark.parametrize("as_of", ["", "x", "-1", "1.5", "2026-01-01", "2026-01-01T00:00:00", "1%0A", "9" * 18, "0x1"])
@pytest.mark.parametrize("path", ["", "/devices"])
async def test_what_is_no_moment_is_refused(client: Client, life: RandomLife, as_of: str, path: str) -> None:
    one = f"/licenses/{life.licenses[0]['license_id']}{path}"
    refused = await client.admin("GET", f"{one}?as_of={as_of}")
    assert (refused.status, refused["error_code"], list(refused["details"])) == (400, "VALIDATION_ERROR", ["as_of"])


async def test_what_lies_ahead_can_still_change(client: Client, services: Services, life: RandomLife) -> None:
    one = f"/licenses/{life.licenses[0]['license_id']}"
    async with services.pool.connection() as connection, connection.transaction():
        # What detection finds has its own time: it is not recorded before this ends.
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (EVENTS_LOCK,))
        row = await (await connection.execute("SELECT max(notification_id) AS end FROM licensing_events")).fetchone()
        assert row is not None
        end = row["end"]
        assert (await client.admin("GET", f"{one}?as_of={end}")).status == 200
        refused = await client.admin("GET", f"{one}?as_of={end + 1}")
        assert refused["details"] == {"as_of": f"must not be beyond the log's end, {end}"}
    refused = await client.admin("GET", f"{one}?as_of=2999-01-01T00:00:00Z")
    assert refused["details"] == {"as_of": "must not lie in the future"}


async def test_an_id_that_is_no_licences_is_not_found(client: Client, events: list[Event]) -> None:
    key = next(event.aggregate for event in events if event.topic == "apikey.created")
    for unknown in (key, uuid4(), "x"):
        for path in ("?as_of=1", "/devices?as_of=1", "/history", "/why?hardware_id=pc"):
            missing = await client.admin("GET", f"/licenses/{unknown}{path}")
            assert (missing.status, missing["error_code"]) == (404, "LICENSE_NOT_FOUND"), path
