"""The second dialect for administrators: create, list, enable, take a device's seat back."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.support.client import Client, Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

FIELDS = {
    "license_id",
    "license_key",
    "license_key_hash",
    "email",
    "product",
    "edition",
    "features",
    "enabled",
    "activations",
    "max_activations",
    "created_at",
    "expires_at",
    "devices",
}


async def create(client: Client, **fields: Any) -> Reply:
    body = {"email": "pilot@example.com", "product": "App", "edition": "Pro", "max_activations": 3, **fields}
    return await client.b_admin("POST", "/licenses", body)


async def activate(client: Client, license: dict[str, Any], device: str) -> Reply:
    body = {
        "email": license["email"],
        "license_key": license["license_key"],
        "device_hash": device,
        "device_name": f"name of {device}",
    }
    return await client.b_client("POST", "/activate", body)


async def listed(client: Client, query: str) -> Reply:
    reply = await client.b_admin("GET", f"/licenses?{query}")
    assert reply.status == 200
    return reply


def is_malformed(reply: Reply, field: str) -> bool:
    return reply.status == 422 and isinstance(reply["detail"], list) and field in str(reply["detail"])


class TestCreate:
    async def test_the_documents_request(self, client: Client) -> None:
        reply = await create(client, features=["featA", "featB"])
        assert reply.status == 201
        assert set(reply.body) == FIELDS
        expected = {
            "email": "pilot@example.com",
            "product": "App",
            "edition": "Pro",
            "features": ["featA", "featB"],
            "enabled": True,
            "activations": 0,
            "max_activations": 3,
            "expires_at": None,
            "devices": [],
        }
        assert {name: reply[name] for name in expected} == expected
        assert str(UUID(reply["license_id"])) == reply["license_id"]
        assert re.fullmatch(r"([A-HJ-NP-Z2-9]{4}-){2}[A-HJ-NP-Z2-9]{4}", reply["license_key"])
        assert re.fullmatch(r"[0-9a-f]{64}", reply["license_key_hash"])
        assert reply["created_at"].endswith("Z")

    async def test_features_are_optional(self, client: Client) -> None:
        assert (await create(client))["features"] == []

    @pytest.mark.parametrize("missing", ["email", "product", "edition", "max_activations"])
    async def test_the_others_are_needed(self, client: Client, missing: str) -> None:
        body = {"email": "a@b.c", "product": "p", "edition": "e", "max_activations": 1}
        del body[missing]
        assert is_malformed(await client.b_admin("POST", "/licenses", body), missing)

    @pytest.mark.parametrize(
        "change",
        [
            {"email": "x"},
            {"email": None},
            {"product": ""},
            {"product": 5},
            {"edition": []},
            {"max_activations": 0},
            {"max_activations": 100_001},
            {"max_activations": "3"},
            {"max_activations": 2.5},
            {"features": "featA"},
            {"features": [None]},
        ],
    )
    async def test_wrong_values_are_422_by_name(self, client: Client, change: dict[str, Any]) -> None:
        assert is_malformed(await create(client, **change), next(iter(change)))


class TestList:
    async def test_the_shape_with_active_devices(self, client: Client) -> None:
        email = f"{uuid4()}@example.com"
        license = (await create(client, email=email)).body
        for device in ("d1", "d2"):
            await activate(client, license, device)
        await client.b_client(
            "POST", "/deactivate", {"license_key_hash": license["license_key_hash"], "device_hash": "d1"}
        )
        reply = await listed(client, f"email={email}")
        assert set(reply.body) == {"items", "total", "page", "per_page"}
        assert (reply["total"], reply["page"], reply["per_page"]) == (1, 1, 50)
        (item,) = reply["items"]
        (device,) = item["devices"]
        assert item == {**license, "activations": 1, "devices": [device]}
        assert set(device) == {"device_hash", "device_name", "activated_at"}
        assert (device["device_hash"], device["device_name"]) == ("d2", "name of d2")

    async def test_filters(self, client: Client) -> None:
        email, product = f"{uuid4()}@example.com", f"App {uuid4()}"
        first = (await create(client, email=email, product=product, edition="Pro")).body
        second = (await create(client, email=email, product=product, edition="Free")).body
        third = (await create(client, email=email)).body
        await client.b_admin(
            "POST", "/licenses/enable", {"license_key": third["license_key"], "enabled": False, "email": email}
        )

        async def found(query: str) -> list[str]:
            return [item["license_id"] for item in (await listed(client, query))["items"]]

        ids = [license["license_id"] for license in (third, second, first)]
        assert await found(f"email={email}") == ids
        assert await found(f"email={email.upper()}") == ids
        assert await found(f"email={email}&enabled=true") == ids[1:]
        assert await found(f"email={email}&enabled=false") == ids[:1]
        assert await found(f"product={product}") == ids[1:]
        assert await found(f"product={product}&edition=Pro") == ids[2:]
        assert await found(f"email={email}&per_page=2&page=2") == ids[2:]
        assert await found("email=nobody@example.com") == []

    async def test_licences_of_the_first_dialect_are_in_it(self, client: Client) -> None:
        email = f"{uuid4()}@example.com"
        license = await client.new_license(email=email, expires_in_days=5)
        (item,) = (await listed(client, f"email={email}"))["items"]
        assert (item["license_id"], item["expires_at"]) == (license["license_id"], license["expires_at"])
        assert item["license_key"] == license["license_key"]

    @pytest.mark.parametrize("query", ["enabled=yes", "enabled=1", "page=0", "per_page=101", "page=x", "unknown=1"])
    async def test_wrong_queries_are_422_by_name(self, client: Client, query: str) -> None:
        assert is_malformed(await client.b_admin("GET", f"/licenses?{query}"), query.partition("=")[0])


class TestEnable:
    async def test_disabled_and_enabled_again(self, client: Client) -> None:
        license = (await create(client)).body
        await activate(client, license, "d1")
        body = {"license_key": license["license_key"], "email": "PILOT@example.com"}
        off = await client.b_admin("POST", "/licenses/enable", {**body, "enabled": False})
        assert off.status == 200
        assert set(off.body) == FIELDS
        assert (off["enabled"], off["activations"], len(off["devices"])) == (False, 1, 1)
        assert (await activate(client, license, "d1")).status == 403
        again = await client.b_admin("POST", "/licenses/enable", {**body, "enabled": False})
        assert (again.status, again.body) == (200, off.body)
        on = await client.b_admin("POST", "/licenses/enable", {**body, "enabled": True})
        assert on["enabled"] is True
        assert (await activate(client, license, "d1")).status == 200

    async def test_key_and_e_mail_must_match(self, client: Client) -> None:
        license = (await create(client)).body
        for key, email in ((license["license_key"], "other@example.com"), ("ABCD-EF23-GH45", license["email"])):
            body = {"license_key": key, "email": email, "enabled": False}
            assert (await client.b_admin("POST", "/licenses/enable", body)).status == 404
        assert (await activate(client, license, "d1")).status == 200

    @pytest.mark.parametrize("enabled", [None, "false", 0, "missing"])
    async def test_enabled_is_a_boolean(self, client: Client, enabled: Any) -> None:
        body = {"license_key": "ABCD-EF23-GH45", "email": "a@b.c", "enabled": enabled}
        if enabled == "missing":
            del body["enabled"]
        assert is_malformed(await client.b_admin("POST", "/licenses/enable", body), "enabled")


class TestDeactivateDevice:
    async def test_it_answers_with_the_licence_and_works_once(self, client: Client) -> None:
        license = (await create(client)).body
        for device in ("d1", "d2"):
            await activate(client, license, device)
        body = {"license_key": license["license_key"], "device_hash": "d1", "email": license["email"]}
        reply = await client.b_admin("POST", "/deactivate-device", body)
        assert reply.status == 200
        assert set(reply.body) == FIELDS
        assert (reply["activations"], [device["device_hash"] for device in reply["devices"]]) == (1, ["d2"])
        assert (await client.b_admin("POST", "/deactivate-device", body)).status == 404
        wrong = {**body, "device_hash": "d2", "email": "other@example.com"}
        assert (await client.b_admin("POST", "/deactivate-device", wrong)).status == 404
        assert (await activate(client, license, "d2"))["activations"] == 1

    @pytest.mark.parametrize("missing", ["license_key", "device_hash", "email"])
    async def test_all_three_fields_are_needed(self, client: Client, missing: str) -> None:
        body = {"license_key": "ABCD-EF23-GH45", "device_hash": "d", "email": "a@b.c"}
        del body[missing]
        assert is_malformed(await client.b_admin("POST", "/deactivate-device", body), missing)
