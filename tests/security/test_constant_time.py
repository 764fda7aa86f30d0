"""What a stranger sends meets what is right in `hmac.compare_digest` only: every such comparison is watched.

That the time tells nothing, as far as it can be measured, shows `test_timing`; here no comparison may be another one.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Iterator
from typing import Any, Never

import pytest

from api.services import Services
from infra.api_secrets import digest, new_api_key
from infra.settings import Secret
from tests.support.client import Client, Reply

Pair = frozenset[bytes]
Ask = Callable[[Client, str], Any]
"""Sends a credential to the endpoint that takes it."""


class Untouchable(str):
    """A secret that must not be compared as a text is: not even its first letter, nor its length."""

    __slots__ = ()

    def _forbidden(self, *_: object) -> Never:
        raise AssertionError("a secret was compared as a text")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __getitem__ = __len__ = __hash__ = _forbidden
    startswith = endswith = find = index = __iter__ = _forbidden


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[Pair]:
    """Give what was compared in constant time, and let the service's secrets be compared in no other way."""
    pairs: list[Pair] = []
    real = hmac.compare_digest

    def watched(a: bytes, b: bytes) -> bool:
        pairs.append(frozenset({bytes(a), bytes(b)}))
        return real(a, b)

    reveal = Secret.reveal
    monkeypatch.setattr(hmac, "compare_digest", watched)
    monkeypatch.setattr(Secret, "reveal", lambda secret: Untouchable(reveal(secret)))
    return pairs


def pair(sent: str, right: str) -> Pair:
    return frozenset({digest(sent), digest(right)})


def near(right: str) -> Iterator[str]:
    """Give the right secret, and wrong ones that agree with it at the start, at the end, in length or in none."""
    yield right
    yield from (f"{right[:-1]}X", f"X{right[1:]}", right[:-1], f"{right}X", right.swapcase(), "X", "adm_" + "x" * 100)


async def by_admin_key(client: Client, key: str) -> Reply:
    return await client.request("GET", "/api/v1/admin/statistics", x_admin_api_key=key)


async def by_admin_secret(client: Client, secret: str) -> Reply:
    return await client.request("GET", "/api/v1/auth/api-keys", x_admin_secret=secret)


@pytest.mark.parametrize("ask,name", [(by_admin_key, "admin_api_key"), (by_admin_secret, "admin_secret")])
async def test_admins_are_known_in_constant_time(client: Client, compared: list[Pair], ask: Ask, name: str) -> None:
    right = getattr(client.secrets, name)
    for sent in near(right):
        compared.clear()
        reply = await ask(client, sent)

        assert reply.status == (200 if sent == right else 401)
        assert pair(sent, right) in compared


PATHS = {
    "a program's": ("POST", "/licenses-api/v1/activate"),
    "an admin's": ("GET", "/licenses-api/v1/admin/licenses"),
    "either's": ("GET", "/licenses-api/v1/public-key"),
}


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("header,name", [("x_client_token", "client_token"), ("x_admin_token", "admin_token")])
async def test_both_tokens_are_compared_whatever_was_sent(
    client: Client, compared: list[Pair], kind: str, header: str, name: str
) -> None:
    """So the time tells neither that a token was right at a wrong path, nor which of the two was."""
    method, path = PATHS[kind]
    secrets = {one: getattr(client.secrets, one) for one in ("client_token", "admin_token")}
    opens = name == {"a program's": "client_token", "an admin's": "admin_token"}.get(kind, name)
    for sent in near(secrets[name]):
        compared.clear()
        reply = await client.request(method, path, b"{", **{header: sent})

        assert (reply.status != 401) == (opens and sent == secrets[name]), reply
        for one, right in secrets.items():
            assert pair(sent if one == name else "", right) in compared


async def test_no_token_is_compared_too(client: Client, compared: list[Pair]) -> None:
    reply = await client.request("GET", "/licenses-api/v1/public-key")

    assert reply.status == 401
    assert {pair("", client.secrets.client_token), pair("", client.secrets.admin_token)} <= set(compared)


@pytest.mark.parametrize("path", ["/activate", "/admin/licenses/enable"])
async def test_an_e_mail_is_compared_in_constant_time(
    client: Client, services: Services, compared: list[Pair], path: str
) -> None:
    right = "owner@example.com"
    license = await client.new_license(email=right)
    call = client.b_client if path == "/activate" else client.b_admin
    body = {"license_key": license["license_key"], "device_hash": "d", "device_name": "n", "enabled": True}
    known = services.vault.lookup_hash("email", right)
    for sent in (right, "Owner@Example.com", "xwner@example.com", "owner@example.cox", "o@e.c", right + "x"):
        compared.clear()
        reply = await call(
            "POST", path if path == "/activate" else path.removeprefix("/admin"), {**body, "email": sent}
        )

        assert reply.status == (200 if sent.lower() == right else 404), reply
        assert frozenset({services.vault.lookup_hash("email", sent), known}) in compared


async def test_a_cursor_is_compared_in_constant_time(client: Client, compared: list[Pair]) -> None:
    for _ in range(2):
        await client.new_license()
    cursor = (await client.admin("GET", "/licenses?per_page=1"))["pagination"]["next_cursor"]
    data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    right = data[24:]
    for mac in (right, right[:-1] + bytes([right[-1] ^ 1]), bytes([right[0] ^ 1]) + right[1:], bytes(12)):
        compared.clear()
        sent = base64.urlsafe_b64encode(data[:24] + mac).rstrip(b"=").decode()
        reply = await client.admin("GET", f"/licenses?per_page=1&cursor={sent}")

        assert reply.status == (200 if mac == right else 400)
        assert frozenset({mac, right}) in compared


async def test_keys_of_programs_are_looked_up_and_compared_with_nothing(
    client: Client, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that can't be one costs no query: it is refused though the database is away. All others cost one."""
    license = await client.new_license()
    good, body = client.api_key, new_api_key()[3:]
    assert (await client.validate(license, "pc")).status == 403
    asked: list[str] = []

    class Away:
        def connection(self) -> Never:
            asked.append("a query")
            raise ConnectionRefusedError

    malformed = [
        good[:-1], f"{good}a", good.swapcase(), f"{good[:-1]}{'b' if good[-1] == 'a' else 'a'}", f"SK_{body}",
        f"sk_{'b' if body[0] == 'a' else 'a'}{body[1:]}", f"sk_{body[:20]}\u00e9{body[21:]}", "sk_", "x" * 41, "' OR 1",
    ]  # fmt: skip
    monkeypatch.setattr(services.api_keys, "_pool", Away())
    for key in malformed:
        reply = await client.validate(license, "pc", x_api_key=key)
        assert (reply.status, reply["error_code"]) == (401, "UNAUTHORIZED"), key
    assert asked == []

    assert (await client.validate(license, "pc", x_api_key=new_api_key())).status >= 500
    assert asked == ["a query"]
