"""Licences for administrators: made, shown, changed and ended."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.services import Services
from tests.support.client import Client, Reply, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

FIELDS = {
    "license_id",
    "license_key",
    "customer_id",
    "email",
    "product",
    "edition",
    "max_devices",
    "current_devices",
    "features",
    "is_active",
    "is_test",
    "floating",
    "created_at",
    "expires_at",
    "metadata",
}


async def get(client: Client, license: dict[str, Any]) -> dict[str, Any]:
    reply = await client.admin("GET", f"/licenses/{license['license_id']}")
    assert reply.status == 200
    reply.body.pop("statistics")
    shown: dict[str, Any] = reply.body
    return shown


async def patch(client: Client, license: dict[str, Any], **fields: Any) -> Reply:
    return await client.admin("PATCH", f"/licenses/{license['license_id']}", fields)


async def event_types(client: Client, license: dict[str, Any]) -> list[str]:
    reply = await client.admin("GET", f"/licenses/{license['license_id']}/events")
    return [event["type"] for event in reply["events"]]


def is_malformed(reply: Reply, field: str) -> bool:
    return (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR") and any(
        name.startswith(field) for name in reply["details"]
    )


class TestCreate:
    async def test_the_documents_request(self, client: Client) -> None:
        body = {
            "customer_id": "acme-1",
            "max_devices": 5,
            "expires_in_days": 365,
            "features": ["feature1", "feature2"],
            "is_test": False,
            "metadata": {"custom": "data"},
        }
        reply = await client.admin("POST", "/licenses", body)
        assert reply.status == 201
        assert set(reply.body) == FIELDS
        assert {name: reply[name] for name in body if name != "expires_in_days"} == {
            name: value for name, value in body.items() if name != "expires_in_days"
        }
        term = datetime.fromisoformat(reply["expires_at"]) - datetime.fromisoformat(reply["created_at"])
        assert term == timedelta(days=365)
        assert (reply["is_active"], reply["current_devices"]) == (True, 0)
        assert str(UUID(reply["license_id"])) == reply["license_id"]
        assert re.fullmatch(r"LIC-[A-HJ-NP-Z2-9]{12}", reply["license_key"])
        assert await get(client, reply.body) == reply.body

    async def test_defaults(self, client: Client) -> None:
        reply = await client.admin("POST", "/licenses", {"customer_id": "c"})
        assert reply.status == 201
        assert (reply["features"], reply["metadata"], reply["is_test"], reply["floating"]) == ([], {}, False, False)
        assert (reply["expires_at"], reply["email"], reply["product"], reply["edition"]) == (None, None, None, None)
        assert reply["max_devices"] >= 1

    async def test_everything_at_once(self, client: Client) -> None:
        body = {
            "customer_id": "Zoë & Söhne",
            "email": "Zoe@Example.org",
            "product": "Editor",
            "edition": "Pro",
            "max_devices": 100_000,
            "expires_in_days": 36_500,
            "floating": True,
            "is_test": True,
            "key_format": "grouped",
            "features": ["ä", "\U0001f600"],
            "metadata": {"a": {"b": [1, 2.5, None, True, "ü"]}},
        }
        reply = await client.admin("POST", "/licenses", body)
        assert reply.status == 201
        assert re.fullmatch(r"[A-HJ-NP-Z2-9]{4}-[A-HJ-NP-Z2-9]{4}-[A-HJ-NP-Z2-9]{4}", reply["license_key"])
        for name in set(body) - {"expires_in_days", "key_format"}:
            assert reply[name] == body[name]
        assert await get(client, reply.body) == reply.body

    async def test_no_two_keys_are_alike(self, client: Client) -> None:
        rows = [{"customer_id": "c"}] * 300
        reply = await client.admin("POST", "/licenses/bulk-create", {"licenses": rows})
        assert len({license["license_key"] for license in reply["licenses"]}) == 300

    @pytest.mark.parametrize(
        "change, field",
        [
            ({"customer_id": None}, "customer_id"),
            ({"customer_id": ""}, "customer_id"),
            ({"customer_id": " "}, "customer_id"),
            ({"customer_id": 5}, "customer_id"),
            ({"customer_id": "x" * 257}, "customer_id"),
            ({"max_devices": 0}, "max_devices"),
            ({"max_devices": -1}, "max_devices"),
            ({"max_devices": 100_001}, "max_devices"),
            ({"max_devices": "5"}, "max_devices"),
            ({"max_devices": 1.5}, "max_devices"),
            ({"max_devices": True}, "max_devices"),
            ({"max_devices": None}, "max_devices"),
            ({"max_devices": 10**30}, ""),
            ({"expires_in_days": 0}, "expires_in_days"),
            ({"expires_in_days": 36_501}, "expires_in_days"),
            ({"expires_in_days": "1"}, "expires_in_days"),
            ({"features": "x"}, "features"),
            ({"features": [1]}, "features"),
            ({"features": [""]}, "features"),
            ({"features": None}, "features"),
            ({"is_test": "false"}, "is_test"),
            ({"is_test": 0}, "is_test"),
            ({"metadata": []}, "metadata"),
            ({"metadata": {"a": "x" * 16_400}}, "metadata"),
            ({"email": "nobody"}, "email"),
            ({"email": ""}, "email"),
            ({"floating": "yes"}, "floating"),
            ({"key_format": "other"}, "key_format"),
        ],
    )
    async def test_a_malformed_field_is_named(self, client: Client, change: dict[str, Any], field: str) -> None:
        assert is_malformed(await client.admin("POST", "/licenses", {"customer_id": "c", **change}), field)

    async def test_perpetual_by_null(self, client: Client) -> None:
        assert (await client.new_license(expires_in_days=None))["expires_at"] is None


class TestGet:
    async def test_it_comes_with_statistics(self, client: Client) -> None:
        license = await client.new_license()
        await client.activate(license, "pc")
        await client.validate(license, "pc")
        await client.validate(license, "other")

        async def counted() -> Reply | None:
            reply = await client.admin("GET", f"/licenses/{license['license_id']}")
            return reply if reply["statistics"]["failed_validations"] == 1 else None

        reply: Reply = await eventually(counted)
        assert set(reply.body) == FIELDS | {"statistics"}
        assert reply["current_devices"] == 1
        assert reply["statistics"]["validations"] == 1
        assert reply["statistics"]["failed_validations"] == 1
        assert reply["statistics"]["heartbeats"] == 0

    @pytest.mark.parametrize("license_id", ["x", "0", str(uuid4()), "%00", "a" * 300, "..%2f.."])
    async def test_what_is_not_there(self, client: Client, license_id: str) -> None:
        for method, rest, body in (
            ("GET", "", None),
            ("PATCH", "", {}),
            ("DELETE", "", None),
            ("GET", "/devices", None),
            ("GET", "/events", None),
            ("GET", "/usage", None),
            ("POST", "/devices/deactivate", {"hardware_id": "pc"}),
            ("POST", "/transfer", {"from_hardware_id": "a", "to_hardware_id": "b"}),
        ):
            reply = await client.admin(method, f"/licenses/{license_id}{rest}", body)
            assert (reply.status, reply["error_code"]) == (404, "LICENSE_NOT_FOUND"), (method, rest)


class TestUpdate:
    @pytest.mark.parametrize(
        "field, value",
        [
            ("max_devices", 10),
            ("expires_at", "2035-12-31T23:59:59Z"),
            ("expires_at", None),
            ("features", ["new_feature"]),
            ("features", []),
            ("metadata", {"other": 1}),
            ("metadata", {}),
            ("email", "new@example.org"),
            ("email", None),
            ("product", "Player"),
            ("product", None),
            ("edition", "Free"),
            ("edition", None),
            ("floating", True),
            ("is_active", False),
        ],
    )
    async def test_it_changes_what_is_sent_and_nothing_else(self, client: Client, field: str, value: Any) -> None:
        license = await client.new_license(
            expires_in_days=5,
            features=["f"],
            metadata={"m": 1},
            email="old@example.org",
            product="Editor",
            edition="Pro",
        )
        reply = await patch(client, license, **{field: value})
        assert reply.status == 200
        assert reply.body == {**license, field: value}
        assert await get(client, license) == reply.body

    async def test_the_documents_request(self, client: Client) -> None:
        license = await client.new_license(metadata={"a": 1})
        body = {
            "max_devices": 10,
            "is_active": True,
            "expires_at": "2035-12-31T23:59:59Z",
            "features": ["new_feature"],
            "metadata": {},
        }
        reply = await patch(client, license, **body)
        assert reply.body == {**license, **body}

    async def test_a_time_with_an_offset_becomes_utc(self, client: Client) -> None:
        license = await client.new_license()
        reply = await patch(client, license, expires_at="2035-01-01T00:30:00.5+02:00")
        assert reply["expires_at"] == "2034-12-31T22:30:00.500000Z"

    async def test_nothing_sent_changes_nothing(self, client: Client) -> None:
        license = await client.new_license()
        reply = await patch(client, license)
        assert (reply.status, reply.body) == (200, license)
        assert await event_types(client, license) == ["license.issued"]

    async def test_the_same_again_makes_no_event(self, client: Client) -> None:
        license = await client.new_license()
        for _ in range(3):
            await patch(client, license, max_devices=7, is_active=False)
        assert await event_types(client, license) == ["license.deactivated", "license.updated", "license.issued"]

    async def test_lowering_below_use_keeps_devices_and_refuses_new_ones(self, client: Client) -> None:
        license = await client.new_license(max_devices=3)
        for device in ("a", "b", "c"):
            await client.activate(license, device)
        reply = await patch(client, license, max_devices=1)
        assert (reply["max_devices"], reply["current_devices"]) == (1, 3)
        reply = await client.activate(license, "d")
        assert (reply.status, reply["details"]) == (409, {"max_devices": 1, "current_devices": 3})
        await client.admin("POST", f"/licenses/{license['license_id']}/devices/deactivate", {"hardware_id": "a"})
        assert (await client.activate(license, "d")).status == 409

    @pytest.mark.parametrize(
        "change, field",
        [
            ({"max_devices": 0}, "max_devices"),
            ({"max_devices": None}, "max_devices"),
            ({"max_devices": 100_001}, "max_devices"),
            ({"is_active": None}, "is_active"),
            ({"is_active": "true"}, "is_active"),
            ({"expires_at": "2025-12-31"}, "expires_at"),
            ({"expires_at": "2025-12-31T23:59:59"}, "expires_at"),
            ({"expires_at": 1}, "expires_at"),
            ({"expires_at": "0001-01-01T00:00:00+14:00"}, "expires_at"),
            ({"features": None}, "features"),
            ({"metadata": None}, "metadata"),
            ({"metadata": "x"}, "metadata"),
            ({"email": "x"}, "email"),
        ],
    )
    async def test_a_malformed_field_is_named_and_nothing_changes(
        self, client: Client, change: dict[str, Any], field: str
    ) -> None:
        license = await client.new_license()
        assert is_malformed(await patch(client, license, **{"edition": "new", **change}), field)
        assert await get(client, license) == license

    async def test_deactivated_and_reactivated(self, client: Client) -> None:
        license = await client.new_license()
        await client.activate(license, "pc")
        await patch(client, license, is_active=False)
        assert (await client.validate(license, "pc"))["error_code"] == "LICENSE_INACTIVE"
        await patch(client, license, is_active=True)
        assert (await client.validate(license, "pc")).status == 200
        assert (await event_types(client, license))[:2] == ["license.reactivated", "license.deactivated"]
        assert (await client.activate(license, "pc-2")).status == 201
        await client.admin("DELETE", f"/licenses/{license['license_id']}")
        assert (await event_types(client, license))[0] == "license.deactivated"


class TestDelete:
    async def test_it_deactivates_once_and_keeps_the_licence(self, client: Client) -> None:
        license = await client.new_license()
        await client.activate(license, "pc")
        path = f"/licenses/{license['license_id']}"
        first = await client.admin("DELETE", path)
        assert first.status == 200
        assert first.body == {**license, "is_active": False, "current_devices": 1}
        again = await client.admin("DELETE", path)
        assert (again.status, again.body) == (200, first.body)
        assert (await event_types(client, license)).count("license.deactivated") == 1
        assert await get(client, license) == first.body


class TestBulkCreate:
    @pytest.mark.parametrize("customers", [["same", "same"], ["one", "another"]])
    async def test_an_address_is_kept_where_it_is_of_one_customer_only(
        self, client: Client, services: Services, customers: list[str]
    ) -> None:
        """Sealed under one customer's key, it would outlive the other."""
        rows = [{"customer_id": f"sealed-{name}"} for name in customers]
        reply = await client.admin("POST", "/licenses/bulk-create", {"licenses": rows})
        ids = [UUID(license["license_id"]) for license in reply["licenses"]]
        query = "SELECT originator_id, originator_version, topic, state FROM licensing_events"
        async with services.pool.connection() as connection:
            cursor = await connection.execute(f"{query} WHERE originator_id = ANY(%s)", (ids,))
            causes = [services.decode_event(row).cause for row in await cursor.fetchall()]
        assert [cause.sealed_address is not None for cause in causes] == [customers == ["same", "same"]] * 2

    async def test_all_rows_in_their_order(self, client: Client) -> None:
        rows = [{"customer_id": f"bulk-{n}", "max_devices": n + 1, "expires_in_days": 365} for n in range(20)]
        reply = await client.admin("POST", "/licenses/bulk-create", {"licenses": rows})
        assert reply.status == 201
        assert [license["customer_id"] for license in reply["licenses"]] == [row["customer_id"] for row in rows]
        assert [license["max_devices"] for license in reply["licenses"]] == list(range(1, 21))
        for license in (reply["licenses"][0], reply["licenses"][-1]):
            assert set(license) == FIELDS
            assert await get(client, license) == license
            assert (await client.activate(license, "pc")).status == 201

    async def test_one_bad_row_and_none_is_made(self, client: Client) -> None:
        rows: list[Any] = [{"customer_id": "bad-bulk"} for _ in range(10)]
        rows[3] = {"customer_id": "bad-bulk", "max_devices": 0}
        rows[7] = {"max_devices": 1}
        reply = await client.admin("POST", "/licenses/bulk-create", {"licenses": rows})
        assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")
        assert set(reply["details"]) == {"licenses[3].max_devices", "licenses[7].customer_id"}
        assert (await client.admin("GET", "/licenses?customer_id=bad-bulk"))["pagination"]["total"] == 0

    @pytest.mark.parametrize("licenses", [[], None, {}, "x", [None], [[]], [{"customer_id": "many"}] * 1001])
    async def test_other_lists_are_refused(self, client: Client, licenses: Any) -> None:
        assert is_malformed(await client.admin("POST", "/licenses/bulk-create", {"licenses": licenses}), "licenses")

    async def test_a_thousand_rows_are_welcome_also_in_a_body_that_other_routes_refuse(self, client: Client) -> None:
        rows = [{"customer_id": "thousand", "metadata": {"note": "x" * 900}} for _ in range(1000)]
        reply = await client.admin("POST", "/licenses/bulk-create", {"licenses": rows})
        assert (reply.status, len(reply["licenses"])) == (201, 1000)
        assert (await client.admin("GET", "/licenses?customer_id=thousand"))["pagination"]["total"] == 1000


@pytest.mark.parametrize("given", [None, "", "wrong", "sk_0123456789"])
async def test_every_route_needs_the_admin_key(client: Client, given: str | None) -> None:
    license = (await client.new_license())["license_id"]
    for method, path, body in (
        ("GET", "/licenses", None),
        ("POST", "/licenses", {"customer_id": "c"}),
        ("POST", "/licenses/bulk-create", {"licenses": [{"customer_id": "c"}]}),
        ("GET", f"/licenses/{license}", None),
        ("PATCH", f"/licenses/{license}", {}),
        ("DELETE", f"/licenses/{license}", None),
        ("GET", f"/licenses/{license}/devices", None),
        ("POST", f"/licenses/{license}/devices/deactivate", {"hardware_id": "pc"}),
        ("POST", f"/licenses/{license}/transfer", {"from_hardware_id": "a", "to_hardware_id": "b"}),
        ("GET", f"/licenses/{license}/events", None),
        ("GET", f"/licenses/{license}/usage", None),
        ("GET", "/statistics", None),
    ):
        reply = await client.admin(method, path, body, x_admin_api_key=given)
        assert (reply.status, reply["error_code"]) == (401, "UNAUTHORIZED"), (method, path)
