"""What goes wrong at the edge: routes, methods, sizes, request ids, browsers, doubled headers, disguised paths."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from yarl import URL

from tests.support.client import Client, Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

VALIDATE = "/api/v1/license/validate"
NEVER = {"license_key": "LIC-AAAAAAAAAAAA", "hardware_id": "pc"}


async def raw(client: Client, head: str, body: bytes = b"") -> tuple[int, dict[str, str], Any]:
    """Send a request exactly as written; return status, headers in lower case, and the body."""
    url = urlsplit(client.base)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    lines = [*head.strip().splitlines(), "Host: test", "Connection: close", f"Content-Length: {len(body)}"]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    top, _, content = answer.partition(b"\r\n\r\n")
    status, *headers = top.decode().split("\r\n")
    named = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in headers)}
    return int(status.split()[1]), named, json.loads(content) if content else None


def has_shape(body: Any, code: str) -> bool:
    return set(body) == {"error", "error_code", "details"} and body["error_code"] == code and bool(body["error"])


class TestRoutes:
    @pytest.mark.parametrize("path", ["/", "/nothing", "/api/v1", "/api/v2/license/validate", f"{VALIDATE}/", "/admin"])
    async def test_unknown_ones_are_not_found(self, client: Client, path: str) -> None:
        for method in ("GET", "POST", "DELETE"):
            reply = await client.request(method, path)
            assert reply.status == 404
            assert has_shape(reply.body, "NOT_FOUND")

    @pytest.mark.parametrize(
        "method, path, allowed",
        [
            ("GET", VALIDATE, {"POST"}),
            ("PUT", "/api/v1/auth/token", {"POST"}),
            ("POST", "/.well-known/jwks.json", {"GET", "HEAD"}),
            ("PUT", "/api/v1/admin/licenses", {"GET", "HEAD", "POST"}),
            ("POST", "/api/v1/admin/licenses/x", {"GET", "HEAD", "PATCH", "DELETE"}),
            ("TRACE", VALIDATE, {"POST"}),
            ("OPTIONS", VALIDATE, {"POST"}),
        ],
    )
    async def test_wrong_methods_are_told_the_right_ones(
        self, client: Client, method: str, path: str, allowed: set[str]
    ) -> None:
        reply = await client.request(method, path)
        assert reply.status == 405
        assert has_shape(reply.body, "METHOD_NOT_ALLOWED")
        named = set(reply.headers["Allow"].replace(" ", "").split(","))
        assert named - {"HEAD", "OPTIONS"} == allowed - {"HEAD"}


class TestBodies:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"[]",
            b'"text"',
            b"{",
            b"{}{}",
            b"{'a': 1}",
            b'{"license_key": "a", "license_key": "b", "hardware_id": "c"}',
            b'{"license_key": NaN, "hardware_id": "c"}',
            b'{"license_key": "a\xff", "hardware_id": "c"}',
            b'{"license_key": "a", "hardware_id": "c", "more": "\xc3("}',
            b'{"license_key": "a", "hardware_id": "c", "more": "\\u0000"}',
            b'{"license_key": "a", "hardware_id": "c", "more": "\\ud800"}',
            b'{"license_key": "a", "hardware_id": "c", "more": 1e400}',
            b'{"license_key": "a", "hardware_id": "c", "more": 100000000000000000000}',
            b"\xef\xbb\xbf{}",
            b"[" * 30_000,
            b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
            "{}".encode("utf-16"),
        ],
    )
    async def test_what_is_no_sound_json_object_is_400(self, client: Client, body: bytes) -> None:
        reply = await client.program(VALIDATE, body)
        assert reply.status == 400
        assert has_shape(reply.body, "VALIDATION_ERROR")
        assert reply["details"]

    @pytest.mark.parametrize(
        "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1"]
    )
    async def test_another_content_type_is_400(self, client: Client, kind: str) -> None:
        reply = await client.program(VALIDATE, NEVER, Content_Type=kind)
        assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")

    async def test_64_kib_are_read_and_no_more(self, client: Client) -> None:
        def sized(size: int) -> bytes:
            text = json.dumps({**NEVER, "more": ""})
            return text.replace('"more": ""', f'"more": "{"x" * (size - len(text))}"').encode()

        assert (await client.program(VALIDATE, sized(64 * 1024))).status == 404
        reply = await client.program(VALIDATE, sized(64 * 1024 + 1))
        assert reply.status == 413
        assert has_shape(reply.body, "PAYLOAD_TOO_LARGE")

    async def test_chunked_bodies_without_a_length_too(self, client: Client) -> None:
        async def chunks() -> Any:
            for _ in range(70):
                yield b" " * 1024

        headers = {"X-API-Key": client.api_key, "Content-Type": "application/json"}
        async with client.session.post(client.base + VALIDATE, data=chunks(), headers=headers) as response:
            assert response.status == 413
            assert has_shape(await response.json(), "PAYLOAD_TOO_LARGE")

    async def test_a_compressed_bomb_is_not_unpacked(self, client: Client) -> None:
        bomb = gzip.compress(b" " * 5_000_000)
        reply = await client.program(VALIDATE, bomb, content_encoding="gzip")
        assert reply.status in {400, 413}

    async def test_bulk_create_takes_4_mib(self, client: Client) -> None:
        reply = await client.admin("POST", "/licenses/bulk-create", b" " * 100_000)
        assert reply.status == 400
        status, _, body = await raw(
            client,
            "POST /api/v1/admin/licenses/bulk-create HTTP/1.1\n"
            f"X-Admin-API-Key: {client.secrets.admin_api_key}\nContent-Type: application/json",
            b" " * (4 * 1024 * 1024 + 1),
        )
        assert status == 413
        assert has_shape(body, "PAYLOAD_TOO_LARGE")


class TestRequestId:
    @pytest.mark.parametrize("given", ["abc-123", "01J8Z.x:y/z", "x" * 128])
    async def test_a_sane_one_comes_back(self, client: Client, given: str) -> None:
        for path in ("/nothing", "/.well-known/jwks.json", "/licenses-api/v1/public-key", "/health/live"):
            reply = await client.request("GET", path, x_request_id=given)
            assert reply.headers["X-Request-ID"] == given

    @pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", "é", "<script>", "a;b"])
    async def test_any_other_is_replaced(self, client: Client, given: str | None) -> None:
        seen = {
            (await client.request("GET", "/.well-known/jwks.json", x_request_id=given)).headers["X-Request-ID"]
            for _ in range(2)
        }
        assert given not in seen
        assert len(seen) == 2


class TestBrowsers:
    async def test_an_origin_of_the_settings_may_call(self, client: Client) -> None:
        for origin in ("https://app.example", "tauri://localhost"):
            asked = await client.request(
                "OPTIONS",
                VALIDATE,
                origin=origin,
                access_control_request_method="POST",
                access_control_request_headers="x-api-key, content-type, idempotency-key",
            )
            assert asked.status in {200, 204}
            assert asked.headers["Access-Control-Allow-Origin"] == origin
            assert "POST" in asked.headers["Access-Control-Allow-Methods"]
            allowed = asked.headers["Access-Control-Allow-Headers"].lower()
            for header in ("x-api-key", "content-type", "idempotency-key", "authorization", "x-admin-api-key"):
                assert header in allowed
            reply = await client.program(VALIDATE, NEVER, origin=origin)
            assert reply.headers["Access-Control-Allow-Origin"] == origin
            assert "Retry-After" in reply.headers["Access-Control-Expose-Headers"]
            assert "Origin" in reply.headers["Vary"]

    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "https://app.example.evil.example", "http://app.example", "null", ""]
    )
    async def test_any_other_may_not(self, client: Client, origin: str) -> None:
        for method in ("OPTIONS", "POST"):
            reply = await client.request(
                method, VALIDATE, origin=origin, access_control_request_method="POST", x_api_key=client.api_key
            )
            assert not [name for name in reply.headers if name.startswith("Access-Control-")]


class TestDoubledHeaders:
    @pytest.mark.parametrize(
        "head",
        [
            "POST /api/v1/license/validate HTTP/1.1\nX-API-Key: {key}\nX-API-Key: {key}",
            "POST /api/v1/license/validate HTTP/1.1\nX-API-Key: sk_other\nx-api-key: {key}",
            "GET /api/v1/admin/statistics HTTP/1.1\nX-Admin-API-Key: {admin}\nX-Admin-API-Key: other",
            "GET /api/v1/auth/api-keys HTTP/1.1\nX-Admin-Secret: {secret}\nX-Admin-Secret: {secret}",
            "POST /api/v1/auth/verify HTTP/1.1\nAuthorization: Bearer a.b.c\nAuthorization: Bearer d.e.f",
            "POST /api/v1/admin/licenses HTTP/1.1\nX-Admin-API-Key: {admin}\nIdempotency-Key: a\nIdempotency-Key: b",
        ],
    )
    async def test_a_credential_sent_twice_is_400(self, client: Client, head: str) -> None:
        secrets = client.secrets
        filled = head.format(key=client.api_key, admin=secrets.admin_api_key, secret=secrets.admin_secret)
        status, _, body = await raw(client, filled, b"{}")
        assert (status, body["error_code"]) == (400, "VALIDATION_ERROR")

    async def test_in_the_second_dialect_it_is_refused_in_its_shape(self, client: Client) -> None:
        token = client.secrets.client_token
        head = f"GET /licenses-api/v1/public-key HTTP/1.1\nX-Client-Token: {token}\nX-Client-Token: {token}"
        status, _, body = await raw(client, head)
        assert status in {400, 401, 422}
        assert set(body) == {"detail"}


class TestDisguisedPaths:
    async def disguised(self, client: Client, key: str, method: str, path: str) -> Reply:
        """Send a path exactly as written."""
        headers = {"X-API-Key": key, "Content-Type": "application/json"}
        body = json.dumps(NEVER).encode() if method == "POST" else None
        url = URL(client.base + path, encoded=True)
        async with client.session.request(method, url, data=body, headers=headers) as response:
            content = await response.read()
            return Reply(response.status, response.headers, json.loads(content) if content else None)

    @pytest.mark.parametrize(
        "method, path",
        [
            ("POST", "/api/v1/license%2Factivate"),
            ("POST", "/api/v1/license/%61ctivate"),
            ("POST", "/api/v1/license/validate/../activate"),
            ("POST", "/api/v1/license/validate/%2e%2e/activate"),
            ("POST", "/api/v1/license/validate/..%2factivate"),
            ("POST", "/api/v1/license/activate;x"),
            ("POST", "/api/v1/license/activate;/validate"),
            ("POST", "/api/v1/license/activate/"),
            ("POST", "/api/v1/license//activate"),
            ("POST", "//api/v1/license/activate"),
            ("POST", "/api/v1/license/./activate"),
            ("POST", "/API/V1/LICENSE/ACTIVATE"),
            ("POST", "/api/v1/license/Activate"),
            ("POST", "/api/v1/license/activate%20"),
            ("POST", "/api/v1/license/activate%00"),
            ("POST", "/api/v1/license/activate%3Fx"),
            ("POST", "/api/v1/license/activate?/api/v1/license/validate"),
            ("POST", "/api/v1/license/activate#/validate"),
            ("POST", "/api/v1/license/act\\ivate"),
            ("GET", "/api/v1/license/activate"),
            ("HEAD", "/api/v1/license/activate"),
            ("OPTIONS", "/api/v1/license/activate"),
        ],
    )
    async def test_a_key_for_one_endpoint_reaches_no_other(self, client: Client, method: str, path: str) -> None:
        key = (await client.new_api_key(allowed_endpoints=["/api/v1/license/validate"]))["api_key"]
        reply = await self.disguised(client, key, method, path)
        assert reply.status in {400, 403, 404, 405}
        if reply.body is not None:
            codes = {"ENDPOINT_NOT_ALLOWED", "NOT_FOUND", "METHOD_NOT_ALLOWED", "VALIDATION_ERROR"}
            assert reply["error_code"] in codes

    async def test_an_encoded_letter_is_that_letter_for_routing_and_permission_alike(self, client: Client) -> None:
        key = (await client.new_api_key(allowed_endpoints=["/api/v1/license/validate"]))["api_key"]
        allowed = await self.disguised(client, key, "POST", "/api/v1/license/%76alidate")
        assert allowed["error_code"] == "LICENSE_NOT_FOUND"
        refused = await self.disguised(client, key, "POST", "/api/v1/license/%61ctivate")
        assert refused["error_code"] == "ENDPOINT_NOT_ALLOWED"

    async def test_method_overrides_are_not_heard(self, client: Client) -> None:
        license = await client.new_license()
        path = f"/licenses/{license['license_id']}"
        reply = await client.admin("GET", path, x_http_method_override="DELETE", x_original_url="/nothing")
        assert (reply.status, reply["is_active"]) == (200, True)


async def test_what_is_no_http_is_400_in_our_shape(client: Client) -> None:
    for head in ("POST /api/v1/license/validate HTTP/1.1\nX Broken: 1", "G\x01T / HTTP/1.1", "GET  HTTP/9"):
        status, headers, body = await raw(client, head)
        assert status == 400
        assert has_shape(body, "VALIDATION_ERROR")
        assert headers["x-request-id"]


async def test_no_answer_tells_which_software_serves(client: Client) -> None:
    for path in ("/nothing", "/.well-known/jwks.json", "/health/live"):
        reply = await client.request("GET", path)
        assert "aiohttp" not in str(reply.headers).lower()
        assert "python" not in str(reply.headers).lower()


async def test_head_is_answered_where_get_is(client: Client) -> None:
    reply = await client.request("HEAD", "/.well-known/jwks.json")
    assert (reply.status, reply.body) == (200, None)
    reply = await client.admin("HEAD", "/statistics")
    assert (reply.status, reply.body) == (200, None)
    assert (await client.request("HEAD", "/api/v1/admin/statistics")).status == 401


async def test_a_wrong_form_is_explained_in_words_and_not_as_a_pattern(client: Client) -> None:
    body = {"customer_id": "c", "email": "nobody", "key_format": "other"}
    reply = await client.admin("POST", "/licenses", body)
    assert reply["details"] == {"email": "must be an e-mail address", "key_format": "must be prefixed or grouped"}
    reply = await client.admin("PATCH", f"/licenses/{(await client.new_license())['license_id']}", {"email": "nobody"})
    assert reply["details"] == {"email": "must be an e-mail address"}
    reply = await client.b_client("POST", "/deactivate", {"license_key_hash": "x", "device_hash": "d"})
    assert reply["detail"] == [{"loc": ["license_key_hash"], "msg": "must be 64 hexadecimal digits, a SHA-256"}]
