"""Erasing a customer: the person is gone from everywhere, history stays, and everything goes on working."""

from __future__ import annotations

from typing import Any

import pytest

from api.services import Services
from tests.support.client import Client, Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

PERSON = {
    "customer_id": "Kundin-Zwölfender-4711",
    "email": "Zoe.Zwoelfender@Example.org",
    "metadata": {"invoice": "Rechnung-8844-Zwölf"},
}
DEVICE = {"device_name": "Zoes Schreibtisch", "os_info": {"name": "Plan9-Quokka", "version": "Release-77.42"}}
REASON = "Ticket 4711"


async def erase(client: Client, name: str = str(PERSON["customer_id"]), by: str = "customer_id") -> Reply:
    return await client.admin("POST", f"/customers/{name}/erase?by={by}", {"reason": REASON})


async def shown(client: Client, license: dict[str, Any]) -> Reply:
    return await client.admin("GET", f"/licenses/{license['license_id']}")


async def test_a_person_is_gone_and_the_licence_goes_on(client: Client) -> None:
    license = await client.new_license(**PERSON)
    assert (await client.activate(license, "hw-1", fields=DEVICE)).status == 201
    erased = await erase(client)
    assert erased.status == 200
    assert erased["license_ids"] == [license["license_id"]]
    after = (await shown(client, license)).body
    assert (after["customer_id"], after["email"], after["metadata"]) == (None, None, {})
    devices = (await client.admin("GET", f"/licenses/{license['license_id']}/devices"))["devices"]
    assert [(d["hardware_id"], d["device_name"], d["os_info"], d["is_active"]) for d in devices] == [
        ("hw-1", None, None, True)
    ]
    assert (await client.validate(license, "hw-1")).status == 200
    assert (await client.activate(license, "hw-2", fields=DEVICE)).status == 201
    assert (await erase(client)).status == 404
