"""A client of the running service, as a program would be one: HTTP and JSON, nothing else."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import aiohttp
from multidict import CIMultiDictProxy


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, headers and decoded body of an answer."""

    status: int
    headers: CIMultiDictProxy[str]
    body: Any

    def __getitem__(self, name: str) -> Any:
        return self.body[name]


@dataclass(frozen=True, slots=True)
class Secrets:
    """The credentials that the test's service was given."""

    admin_api_key: str = "adm_0123456789abcdefghijklmnopqrstuv"
    admin_secret: str = "ads_0123456789abcdefghijklmnopqrstuv"
    client_token: str = "clt_0123456789abcdefghijklmnopqrstuv"
    admin_token: str = "adt_0123456789abcdefghijklmnopqrstuv"


class Client:
    """Talks to one base URL. Headers given by keyword: `x_api_key="…"` is `X-Api-Key`; None sends none.

    Each client has an address of its own (X-Forwarded-For from a trusted proxy), so that limits by address of one
    test do not meet those of another.
    """

    def __init__(
        self, session: aiohttp.ClientSession, base: str, secrets: Secrets, address: str = "203.0.113.7"
    ) -> None:
        self.session = session
        self.base = base
        self.secrets = secrets
        self.address = address
        self.api_key = ""

    async def request(self, method: str, path: str, body: Any = None, /, **headers: str | None) -> Reply:
        """Send a request; a dict is sent as JSON, bytes as they are."""
        sent = {"X-Forwarded-For": self.address}
        sent |= {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        async with self.session.request(method, self.base + path, data=data, headers=sent) as response:
            raw = await response.read()
            return Reply(response.status, response.headers, json.loads(raw) if raw else None)

    # The first dialect.

    async def program(self, path: str, body: Any = None, /, **headers: str | None) -> Reply:
        """POST with the test's API key, which has no limits."""
        return await self.request("POST", path, body, **{"x_api_key": self.api_key, **headers})

    async def admin(self, method: str, path: str, body: Any = None, /, **headers: str | None) -> Reply:
        """Call the admin API; `path` is what follows /api/v1/admin."""
        given = {"x_admin_api_key": self.secrets.admin_api_key, **headers}
        return await self.request(method, f"/api/v1/admin{path}", body, **given)

    async def new_api_key(self, **fields: Any) -> Reply:
        """Make an API key; without fields it has no limits and the usual endpoints."""
        body = {"client_name": "test", "requests_per_minute": None, "requests_per_hour": None, **fields}
        return await self.request("POST", "/api/v1/auth/api-key", body, x_admin_secret=self.secrets.admin_secret)

    async def new_license(self, **fields: Any) -> dict[str, Any]:
        """Make a licence and return it."""
        reply = await self.admin("POST", "/licenses", {"customer_id": "acme", "max_devices": 3, **fields})
        assert reply.status == 201, reply
        created: dict[str, Any] = reply.body
        return created

    async def activate(self, license: dict[str, Any], hardware_id: str, /, **more: Any) -> Reply:
        """Activate a device."""
        body = {"license_key": license["license_key"], "hardware_id": hardware_id, **more.pop("fields", {})}
        return await self.program("/api/v1/license/activate", body, **more)

    async def validate(self, license: dict[str, Any], hardware_id: str, /, **more: Any) -> Reply:
        """Validate a device."""
        body = {"license_key": license["license_key"], "hardware_id": hardware_id, **more.pop("fields", {})}
        return await self.program("/api/v1/license/validate", body, **more)

    async def tokens(self, license: dict[str, Any], hardware_id: str) -> Reply:
        """Ask for tokens."""
        body = {"license_id": license["license_id"], "hardware_id": hardware_id}
        return await self.program("/api/v1/auth/token", body)

    async def bearer(self, path: str, token: str, body: Any = None) -> Reply:
        """POST with an access token."""
        return await self.request("POST", path, body, authorization=f"Bearer {token}")

    # The second dialect.

    async def b_client(self, method: str, path: str, body: Any = None, /, **headers: str | None) -> Reply:
        """Call the second dialect as a program; `path` is what follows /licenses-api/v1."""
        given = {"x_client_token": self.secrets.client_token, **headers}
        return await self.request(method, f"/licenses-api/v1{path}", body, **given)

    async def b_admin(self, method: str, path: str, body: Any = None, /, **headers: str | None) -> Reply:
        """Call the second dialect as an administrator; `path` is what follows /licenses-api/v1/admin."""
        given = {"x_admin_token": self.secrets.admin_token, **headers}
        return await self.request(method, f"/licenses-api/v1/admin{path}", body, **given)


async def eventually(condition: Any, seconds: float = 30.0) -> Any:
    """Await a condition (a coroutine function) until it gives something true; fail after some seconds."""
    async with asyncio.timeout(seconds):
        while not (found := await condition()):  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(0.01)
    return found
