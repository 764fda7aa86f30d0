"""What is told of an instant of the past is what was answered at it, to admins and to programs."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any

import pytest

from api.schemas.common import rfc3339
from api.services import Services
from tests.http.passing_time import Passing
from tests.support.client import Client
from tests.support.random_life import DEVICES, RandomLife

STEPS = 90
SECOND, INSTANT = timedelta(seconds=1), timedelta(microseconds=1)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_each_instant_is_as_it_was_answered(client: Client, services: Services, time_passes: Passing) -> None:
    """Much happens at one and the same instant, or a microsecond later; terms end and begin again in between."""
    life, random, began = RandomLife(client, seed=31), Random(8), services.clock.now()
    now = began
    time_passes.stop_at(now)
    await life.begin(2)
    answered: dict[tuple[str, str], tuple[str, Any]] = {}
    reasons: set[str | None] = set()
    for _ in range(STEPS):
        now += random.choice((0 * SECOND, 0 * SECOND, INSTANT, SECOND))
        time_passes.stop_at(now)
        await life.step()
        if random.random() < 0.4:
            ends = now + random.choice((-SECOND, 0 * SECOND, INSTANT, 3 * SECOND))
            await client.admin("PATCH", f"/licenses/{life.license()['license_id']}", {"expires_at": rfc3339(ends)})
        for license in life.licenses:
            device = random.choice(DEVICES)
            told = await client.validate(license, device)
            reasons.add(told.body.get("error_code"))
            shown = await shown_now(client, license["license_id"])
            answered[license["license_id"], rfc3339(now)] = (device, (*shown, told.status, told.body.get("error_code")))
    assert reasons == {None, "LICENSE_INACTIVE", "LICENSE_EXPIRED", "DEVICE_NOT_ACTIVATED", "DEVICE_LIMIT_EXCEEDED"}

    time_passes.stop_at(now + timedelta(days=1))
    for (license_id, at), (device, expected) in answered.items():
        assert await shown_then(client, license_id, at, device) == expected, (license_id, at)
    missing = await client.admin("GET", f"/licenses/{life.licenses[0]['license_id']}?as_of={rfc3339(began - INSTANT)}")
    assert (missing.status, missing["error_code"]) == (404, "LICENSE_NOT_FOUND")


async def shown_now(client: Client, license_id: str) -> tuple[Any, Any]:
    license = (await client.admin("GET", f"/licenses/{license_id}")).body
    devices = (await client.admin("GET", f"/licenses/{license_id}/devices"))["devices"]
    return without(license, "statistics"), [{**device, "last_seen_at": None} for device in devices]


async def shown_then(client: Client, license_id: str, at: str, device: str) -> tuple[Any, Any, int, str | None]:
    license = (await client.admin("GET", f"/licenses/{license_id}?as_of={at}")).body
    devices = (await client.admin("GET", f"/licenses/{license_id}/devices?as_of={at}"))["devices"]
    verdict = (await client.admin("GET", f"/licenses/{license_id}/why?hardware_id={device}&at={at}"))["verdict"]
    return without(license, "as_of", "personal_data"), devices, verdict["status"], verdict["error_code"]


def without(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names}
