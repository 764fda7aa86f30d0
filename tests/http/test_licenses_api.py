"""The second dialect for programs: activate, deactivate, public key; and who may call."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.support.client import Client, Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN_FIELDS = {
    "license_key_hash",
    "email",
    "product",
    "edition",
    "features",
    "device_hash",
    "device_name",
    "activations",
    "max_activations",
    "issued_at",
    "expires_at",
    "kid",
    "sig",
}
WRONG_CREDENTIAL = {"detail": "invalid client/admin token"}


async def new(client: Client, **fields: Any) -> dict[str, Any]:
    body = {"email": "pilot@example.com", "product": "App", "edition": "Pro", "max_activations": 3, **fields}
    reply = await client.b_admin("POST", "/licenses", body)
    assert reply.status == 201
    license: dict[str, Any] = reply.body
    return license


async def activate(client: Client, license: dict[str, Any], device: str, **fields: Any) -> Reply:
    body = {
        "email": license["email"],
        "license_key": license["license_key"],
        "device_hash": device,
        "device_name": "My PC",
        **fields,
    }
    return await client.b_client("POST", "/activate", body)


async def deactivate(client: Client, license: dict[str, Any], device: str) -> Reply:
    body = {"license_key_hash": license["license_key_hash"], "device_hash": device}
    return await client.b_client("POST", "/deactivate", body)


async def shown(client: Client, license: dict[str, Any]) -> dict[str, Any]:
    """Return the licence as the list shows it."""
    reply = await client.b_admin("GET", f"/licenses?email={license['email']}&per_page=100")
    (found,) = [item for item in reply["items"] if item["license_id"] == license["license_id"]]
    item: dict[str, Any] = found
    return item


class TestActivate:
    async def test_the_token(self, client: Client) -> None:
        license = await new(client, features=["featA", "featB"])
        reply = await activate(client, license, "d" * 64)
        assert reply.status == 200
        assert set(reply.body) == TOKEN_FIELDS
        key = license["license_key"]
        assert reply["license_key_hash"] == hashlib.sha256(key.encode()).hexdigest() == license["license_key_hash"]
        expected = {
            "email": "pilot@example.com",
            "product": "App",
            "edition": "Pro",
            "features": ["featA", "featB"],
            "device_hash": "d" * 64,
            "device_name": "My PC",
            "activations": 1,
            "max_activations": 3,
        }
        assert {name: reply[name] for name in expected} == expected
        life = datetime.fromisoformat(reply["expires_at"]) - datetime.fromisoformat(reply["issued_at"])
        assert life == timedelta(hours=24)

    async def test_it_never_lasts_past_the_licence(self, client: Client) -> None:
        license = await new(client)
        end = (datetime.fromisoformat(license["created_at"]) + timedelta(hours=3)).isoformat()
        await client.admin("PATCH", f"/licenses/{license['license_id']}", {"expires_at": end})
        reply = await activate(client, license, "d")
        assert datetime.fromisoformat(reply["expires_at"]) == datetime.fromisoformat(end)

    async def test_the_same_device_again_gets_a_token_and_takes_no_seat(self, client: Client) -> None:
        license = await new(client, max_activations=1)
        first = await activate(client, license, "d1")
        again = await activate(client, license, "d1")
        assert (again.status, again["activations"]) == (200, 1)
        assert again["issued_at"] > first["issued_at"]

    async def test_a_new_name_is_recorded(self, client: Client) -> None:
        license = await new(client)
        await activate(client, license, "d1", device_name="old")
        reply = await activate(client, license, "d1", device_name="new")
        assert (reply["device_name"], reply["activations"]) == ("new", 1)
        (device,) = (await shown(client, license))["devices"]
        assert device["device_name"] == "new"

    async def test_a_full_quota_answers_with_the_counts(self, client: Client) -> None:
        license = await new(client, max_activations=2)
        for device in ("d1", "d2"):
            await activate(client, license, device)
        reply = await activate(client, license, "d3")
        assert reply.status == 409
        assert set(reply["detail"]) == {"message", "activations", "max_activations"}
        assert (reply["detail"]["activations"], reply["detail"]["max_activations"]) == (2, 2)
        assert (await activate(client, license, "d1")).status == 200

    async def test_the_quota_is_not_passed_by_a_race(self, client: Client) -> None:
        license = await new(client, max_activations=3)
        replies = await asyncio.gather(*(activate(client, license, f"d{n}") for n in range(20)))
        assert sorted(reply.status for reply in replies) == [200] * 3 + [409] * 17

    async def test_e_mail_is_compared_without_case_and_key_without_case_and_blanks(self, client: Client) -> None:
        license = await new(client, email="Pilot@Example.com")
        typed = f" {license['license_key'].lower()} "
        reply = await activate(client, license, "d", email="pILOT@example.COM ", license_key=typed)
        assert reply.status == 200
        assert reply["email"] == "Pilot@Example.com"

    async def test_a_wrong_e_mail_and_an_unknown_key_answer_alike(self, client: Client) -> None:
        license = await new(client)
        wrong_email = await activate(client, license, "d", email="other@example.com")
        unknown_key = await activate(client, license, "d", license_key="ABCD-EF23-GH45")
        assert wrong_email.status == unknown_key.status == 404
        assert wrong_email.body == unknown_key.body
        assert isinstance(wrong_email["detail"], str)
        differing = {"X-Request-ID", "Date", "Content-Length", "X-RateLimit-Remaining"}
        assert {k: v for k, v in wrong_email.headers.items() if k not in differing} == {
            k: v for k, v in unknown_key.headers.items() if k not in differing
        }

    async def test_disabled_or_expired_is_forbidden(self, client: Client) -> None:
        license = await new(client)
        path = f"/licenses/{license['license_id']}"
        for change in ({"is_active": False}, {"is_active": True, "expires_at": "2020-01-01T00:00:00Z"}):
            await client.admin("PATCH", path, change)
            reply = await activate(client, license, "d")
            assert reply.status == 403
            assert set(reply.body) == {"detail"}
            assert isinstance(reply["detail"], str)

    @pytest.mark.parametrize("missing", ["email", "license_key", "device_hash", "device_name"])
    async def test_all_four_fields_are_needed(self, client: Client, missing: str) -> None:
        body = {"email": "a@b.c", "license_key": "ABCD-EF23-GH45", "device_hash": "d", "device_name": "n"}
        del body[missing]
        reply = await client.b_client("POST", "/activate", body)
        assert reply.status == 422
        assert isinstance(reply["detail"], list)
        assert missing in str(reply["detail"])

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[]", b'"x"', b"\xff", b'{"email":1e999}', b'{"email":"\\u0000"}', {}]
    )
    async def test_every_malformed_body_is_422_with_a_list(self, client: Client, body: Any) -> None:
        reply = await client.b_client("POST", "/activate", body)
        assert reply.status == 422
        assert isinstance(reply["detail"], list)
        assert reply["detail"]

    @pytest.mark.parametrize(
        "change",
        [{"email": 5}, {"device_hash": ""}, {"device_hash": "x" * 257}, {"device_name": ""}, {"license_key": []}],
    )
    async def test_wrong_types_and_lengths_are_422(self, client: Client, change: dict[str, Any]) -> None:
        reply = await activate(client, {"email": "a@b.c", "license_key": "ABCD-EF23-GH45"}, "d", **change)
        assert reply.status == 422
        assert next(iter(change)) in str(reply["detail"])


class TestDeactivate:
    async def test_it_frees_the_seat_and_a_repeat_changes_nothing(self, client: Client) -> None:
        license = await new(client, max_activations=2)
        for device in ("d1", "d2"):
            await activate(client, license, device)
        reply = await deactivate(client, license, "d1")
        assert reply.status == 200
        assert reply.body == {
            "license_key_hash": license["license_key_hash"],
            "device_hash": "d1",
            "activations": 1,
            "max_activations": 2,
        }
        assert (await deactivate(client, license, "d1")).status == 404
        assert (await shown(client, license))["activations"] == 1
        assert (await activate(client, license, "d3")).status == 200

    async def test_unknown_licences_and_devices(self, client: Client) -> None:
        license = await new(client)
        for hashed in ("0" * 64, license["license_key_hash"]):
            reply = await deactivate(client, {"license_key_hash": hashed}, "never")
            assert reply.status == 404
            assert isinstance(reply["detail"], str)

    @pytest.mark.parametrize("hashed", ["", "x", "0" * 63, "0" * 65, "g" * 64, 5, None])
    async def test_what_is_no_sha_256_is_malformed(self, client: Client, hashed: Any) -> None:
        reply = await deactivate(client, {"license_key_hash": hashed}, "d")
        assert reply.status == 422
        assert "license_key_hash" in str(reply["detail"])

    async def test_the_hash_may_be_upper_case(self, client: Client) -> None:
        license = await new(client)
        await activate(client, license, "d")
        upper = {"license_key_hash": license["license_key_hash"].upper()}
        assert (await deactivate(client, upper, "d")).status == 200


class TestBothDialects:
    async def test_a_licence_of_one_works_in_the_other(self, client: Client) -> None:
        license = await new(client)
        assert (await client.activate(license, "pc")).status == 201
        assert (await activate(client, license, "pc"))["activations"] == 1
        assert (await client.validate(license, "pc"))["limits"] == {"max_devices": 3, "current_devices": 1}
        email = f"{uuid4()}@example.org"
        first = await client.new_license(email=email, product="P", edition="E")
        reply = await activate(client, first, "pc")
        assert (reply.status, reply["product"]) == (200, "P")
        assert (await client.validate(first, "pc")).status == 200

    async def test_an_e_mail_changed_there_is_the_one_that_counts_here(self, client: Client) -> None:
        license = await new(client, email="old@example.org")
        changed = await client.admin("PATCH", f"/licenses/{license['license_id']}", {"email": "New@example.org"})
        assert changed.status == 200
        assert (await activate(client, license, "d")).status == 404
        reply = await activate(client, license, "d", email="new@example.org")
        assert (reply.status, reply["email"]) == (200, "New@example.org")
        assert (await client.b_admin("GET", "/licenses?email=NEW@example.org"))["total"] == 1
        assert (await client.b_admin("GET", "/licenses?email=old@example.org"))["total"] == 0

    async def test_without_an_e_mail_it_can_not_be_used_here(self, client: Client) -> None:
        license = await client.new_license()
        assert (await activate(client, license, "pc", email="a@b.c")).status == 404
        assert (await activate(client, license, "pc", email="acme")).status in {404, 422}


class TestCredentials:
    async def test_either_token_reads_the_public_key(self, client: Client) -> None:
        by_client = await client.b_client("GET", "/public-key")
        by_admin = await client.b_client(
            "GET", "/public-key", x_client_token=None, x_admin_token=client.secrets.admin_token
        )
        assert by_client.status == by_admin.status == 200
        assert by_client.body == by_admin.body
        assert set(by_client.body) == {"alg", "kid", "public_key", "pem", "keys"}
        assert by_client["alg"] == "Ed25519"
        assert by_client["kid"] in {key["kid"] for key in by_client["keys"]}

    async def test_missing_wrong_both_or_of_the_wrong_kind(self, client: Client) -> None:
        good_client = {"x_client_token": client.secrets.client_token}
        good_admin = {"x_admin_token": client.secrets.admin_token}
        wrong: list[dict[str, str | None]] = [
            {},
            {"x_client_token": "", "x_admin_token": None},
            {"x_client_token": "wrong"},
            {"x_admin_token": "wrong"},
            {"x_client_token": client.secrets.admin_token},
            {"x_admin_token": client.secrets.client_token},
            {**good_client, **good_admin},
            {**good_client, "x_admin_token": "wrong"},
            {**good_client, "x_admin_token": ""},
            {"x_client_token": "wrong", **good_admin},
            {"x_api_key": client.api_key},
            {"x_admin_api_key": client.secrets.admin_api_key},
        ]
        routes: list[tuple[str, str, Any, list[Any]]] = [
            ("POST", "/activate", {}, [good_admin]),
            ("POST", "/deactivate", {}, [good_admin]),
            ("GET", "/public-key", None, []),
            ("POST", "/admin/licenses", {}, [good_client]),
            ("GET", "/admin/licenses", None, [good_client]),
            ("POST", "/admin/licenses/enable", {}, [good_client]),
            ("POST", "/admin/deactivate-device", {}, [good_client]),
        ]
        for method, path, body, wrong_kind in routes:
            for headers in wrong + wrong_kind:
                reply = await client.request(method, f"/licenses-api/v1{path}", body, **headers)
                assert (reply.status, reply.body) == (401, WRONG_CREDENTIAL), (path, headers)

    async def test_other_errors_have_the_dialects_shape_too(self, client: Client) -> None:
        for method, path, status in (
            ("GET", "/nothing", 404),
            ("GET", "/activate", 405),
            ("DELETE", "/admin/licenses", 405),
        ):
            reply = await client.b_client(method, path)
            assert reply.status == status
            assert set(reply.body) == {"detail"}
        reply = await client.b_client("POST", "/activate", b'{"email": "' + b"x" * 70_000 + b'"}')
        assert reply.status == 413
        assert set(reply.body) == {"detail"}
