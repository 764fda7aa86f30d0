"""Rounds of: something is ended on one process, and the very next request on the other must be refused.

As a script: `python -m tests.processes.freshness 10000` runs that many rounds over two processes and a database of
its own, and says how many were refused as they must.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from tests.support.client import Client, Reply
from tests.support.cluster import Cluster
from tests.support.processes import running_pair

LANES = 4
"""Licences that are treated at once, each in rounds of its own."""


@dataclass
class Lane:
    """One licence with one device, ended by the first client and used through the second."""

    ender: Client
    user: Client
    license: dict[str, Any]
    device: str = "pc-0"
    device_number: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    def next_device(self) -> str:
        """Return the name of a device that has never had a seat."""
        self.device_number += 1
        return f"pc-{self.device_number}"

    async def used(self) -> Reply:
        """Validate the device on the other process."""
        return await self.user.validate(self.license, self.device, **self.headers)

    async def admin(self, method: str, path: str = "", body: Any = None) -> None:
        """Call the admin API on the ending process; it must succeed."""
        reply = await self.ender.admin(method, f"/licenses/{self.license['license_id']}{path}", body)
        assert reply.status == 200, reply

    async def ensure_active(self) -> None:
        """Give the device a seat where it has none, and have the other process remember that it is good."""
        if (await self.used()).status != 200:
            assert (await self.ender.activate(self.license, self.device)).status == 201
        for _ in range(2):
            assert (await self.used()).status == 200


async def revoke_license(lane: Lane) -> bool:
    """Delete the licence."""
    await lane.admin("DELETE")
    refused = await lane.used()
    await lane.admin("PATCH", "", {"is_active": True})
    return refused.status == 403 and bool(refused["error_code"] == "LICENSE_INACTIVE")


async def deactivate_device(lane: Lane) -> bool:
    """Deactivate the device."""
    await lane.admin("POST", "/devices/deactivate", {"hardware_id": lane.device})
    refused = await lane.used()
    return refused.status == 403 and bool(refused["error_code"] == "DEVICE_NOT_ACTIVATED")


async def transfer_seat(lane: Lane) -> bool:
    """Transfer the seat to another device, which is good at once as well."""
    other = lane.next_device()
    await lane.admin("POST", "/transfer", {"from_hardware_id": lane.device, "to_hardware_id": other})
    refused = await lane.used()
    lane.device = other
    accepted = await lane.used()
    return (refused.status, accepted.status) == (403, 200)


async def revoke_api_key(lane: Lane) -> bool:
    """Revoke an API key that the other process has just used."""
    made = await lane.ender.new_api_key()
    lane.headers = {"x_api_key": made["api_key"]}
    assert (await lane.used()).status == 200
    secret = lane.ender.secrets.admin_secret
    path = f"/api/v1/auth/api-keys/{made['key_id']}"
    assert (await lane.ender.request("DELETE", path, x_admin_secret=secret)).status == 200
    refused = await lane.used()
    lane.headers = {}
    return refused.status == 401


async def stop_heartbeats(lane: Lane) -> bool:
    """Deactivate the device, whose heartbeats the other process has just taken."""
    token = (await lane.user.tokens(lane.license, lane.device))["access_token"]
    heart = "/api/v1/license/heartbeat"
    assert (await lane.user.bearer(heart, token)).status == 200
    await lane.admin("POST", "/devices/deactivate", {"hardware_id": lane.device})
    refused = await lane.user.bearer(heart, token)
    # A new seat does not bring the old token back.
    assert (await lane.ender.activate(lane.license, lane.device)).status == 201
    still_refused = await lane.user.bearer(heart, token)
    return (refused.status, still_refused.status) == (401, 401)


async def stop_tokens(lane: Lane) -> bool:
    """Deactivate the device, which the other process has just given tokens."""
    assert (await lane.user.tokens(lane.license, lane.device)).status == 200
    await lane.admin("POST", "/devices/deactivate", {"hardware_id": lane.device})
    refused = await lane.user.tokens(lane.license, lane.device)
    return refused.status == 403 and bool(refused["error_code"] == "DEVICE_NOT_ACTIVATED")


Kind = Callable[[Lane], Awaitable[bool]]
KINDS: tuple[Kind, ...] = (
    revoke_license,
    deactivate_device,
    transfer_seat,
    revoke_api_key,
    stop_tokens,
    stop_heartbeats,
)

HEARTBEATS_A_LICENCE = 15
"""Rounds of heartbeats after which a lane takes a new licence: a licence's tokens may be used 60 times a minute."""


async def run_rounds(clients: Sequence[Client], rounds: int) -> Counter[str]:
    """Run rounds of all kinds in turn; count `refused` and, by kind, what was let through."""
    results: Counter[str] = Counter()
    kinds = cycle(KINDS)
    left = rounds

    async def lane(number: int) -> None:
        nonlocal left
        current, heartbeats = await _new_lane(clients, number), 0
        while left > 0:
            left -= 1
            kind = next(kinds)
            heartbeats += kind is stop_heartbeats
            if heartbeats > HEARTBEATS_A_LICENCE:
                current, heartbeats = await _new_lane(clients, number), 0
            await current.ensure_active()
            results["refused" if await kind(current) else kind.__name__] += 1

    await asyncio.gather(*map(lane, range(LANES)))
    return results


async def _new_lane(clients: Sequence[Client], number: int) -> Lane:
    ender, user = (clients[0], clients[1]) if number % 2 == 0 else (clients[1], clients[0])
    return Lane(ender, user, await ender.new_license(max_devices=2))


async def _main(rounds: int) -> int:
    with Cluster() as cluster, running_pair(cluster, "patient_server") as pair:
        async with pair.clients() as clients:
            began = time.monotonic()
            results = await run_rounds(clients, rounds)
            seconds = time.monotonic() - began
    through = {kind: count for kind, count in results.items() if kind != "refused"}
    sys.stdout.write(f"{results['refused']} of {rounds} refused at once, in {seconds:.0f} s; let through: {through}\n")
    return 0 if results["refused"] == rounds else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)))
