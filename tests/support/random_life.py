"""Licences whose histories are made up at random, over HTTP: all that can happen to one happens, mistakes included."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.support.client import Client, Reply

PAST, FUTURE = "2020-01-01T00:00:00Z", "2940-06-01T12:30:00.5Z"
DEVICES = tuple(f"pc-{number}" for number in range(6))
PRODUCTS = ("Editor", "Viewer")


class RandomLife:
    """Some licences, and one step after the other in one of their lives. The same seed takes the same steps."""

    def __init__(self, client: Client, seed: int) -> None:
        self.client = client
        self.random = Random(seed)
        self.licenses: list[dict[str, Any]] = []
        self._calls = 0
        self._bound: dict[str | None, str] = {None: client.api_key}
        self._steps = (
            *[self._activate] * 8,
            *[self._activate_again] * 2,
            *[self._give_up] * 2,
            *[self._take_back] * 2,
            *[self._transfer] * 4,
            *[self._change] * 4,
            *[self._revoke] * 2,
            *[self._restore] * 2,
            *[self._correct] * 5,
        )

    async def begin(self, count: int) -> None:
        """Issue licences, some of them all at once, and make API keys that are bound to products."""
        for product in PRODUCTS:
            self._bound[product] = (await self.client.new_api_key(product=product))["api_key"]
        for number in range(count):
            fields = {"customer_id": f"customer-{number % 3}", "email": f"c{number}@example.com", **self._terms()}
            self.licenses.append(await self.client.new_license(**fields, is_test=number % 4 == 0))
        bulk = {"licenses": [{"customer_id": "bulk", "max_devices": 2, **self._terms()} for _ in range(2)]}
        self.licenses += (await self.client.admin("POST", "/licenses/bulk-create", bulk))["licenses"]

    async def step(self) -> Reply:
        """Let something happen, or be refused."""
        return await self.random.choice(self._steps)(self.license())

    def license(self) -> dict[str, Any]:
        """Return one of the licences."""
        return self.random.choice(self.licenses)

    def device(self) -> str:
        """Return one of the devices."""
        return self.random.choice(DEVICES)

    async def validate(self, license: dict[str, Any], hardware_id: str, bound: str | None, named: str | None) -> Reply:
        """Validate under the API key that is bound to a product, and name a product."""
        fields = {} if named is None else {"product": named}
        return await self.client.validate(license, hardware_id, fields=fields, x_api_key=self._bound[bound])

    def _terms(self) -> dict[str, Any]:
        chosen = self.random
        return {
            "product": chosen.choice((None, *PRODUCTS)),
            "edition": chosen.choice((None, "pro")),
            "floating": chosen.random() < 0.3,
            "features": chosen.sample(["export", "sync", "ü"], chosen.randrange(4)),
            "metadata": {"seats": [chosen.randrange(9)]},
        }

    async def _activate(self, license: dict[str, Any]) -> Reply:
        fields = {"device_name": f"name {self.random.randrange(99)}", "os_info": {"name": "Linux"}}
        return await self.client.activate(license, self.device(), fields=self.random.choice((fields, {})))

    async def _activate_again(self, license: dict[str, Any]) -> Reply:
        """Activate as the second dialect does, where a repeat renames the device; an address may ask 60 times."""
        self._calls += 1
        self.client.address = f"10.99.{self._calls // 50 % 256}.7"
        body = {"license_key": license["license_key"], "email": license["email"], "device_hash": self.device()}
        return await self.client.b_client("POST", "/activate", {**body, "device_name": f"b {self.random.random()}"})

    async def _give_up(self, license: dict[str, Any]) -> Reply:
        body = {"license_key": license["license_key"], "hardware_id": self.device()}
        return await self.client.program("/api/v1/license/deactivate", body)

    async def _take_back(self, license: dict[str, Any]) -> Reply:
        return await self._admin("POST", license, "/devices/deactivate", {"hardware_id": self.device()})

    async def _transfer(self, license: dict[str, Any]) -> Reply:
        source, target = self.random.sample(DEVICES, 2)
        body = {"from_hardware_id": source, "to_hardware_id": target, "reason": "moved"}
        return await self._admin("POST", license, "/transfer", body)

    async def _change(self, license: dict[str, Any]) -> Reply:
        terms = {**self._terms(), "max_devices": self.random.randrange(1, 5)}
        terms["expires_at"] = self.random.choice((None, PAST, FUTURE))
        names = self.random.sample(sorted(terms), 2)
        return await self._admin("PATCH", license, "", {name: terms[name] for name in names})

    async def _revoke(self, license: dict[str, Any]) -> Reply:
        return await self._admin("DELETE", license, "")

    async def _restore(self, license: dict[str, Any]) -> Reply:
        return await self._admin("PATCH", license, "", {"is_active": True})

    async def _correct(self, license: dict[str, Any]) -> Reply:
        """Undo one of the last events, whatever it was."""
        events = (await self._admin("GET", license, "/events"))["events"]
        event = self.random.choice(events[:6])
        return await self._admin("POST", license, "/corrections", {"event_id": event["event_id"], "reason": "oops"})

    async def _admin(self, method: str, license: dict[str, Any], path: str, body: Any = None) -> Reply:
        return await self.client.admin(method, f"/licenses/{license['license_id']}{path}", body)
