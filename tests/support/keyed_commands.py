"""Callers that order one change after the other, of all kinds, each under an idempotency key, until nobody answers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import count
from typing import Any, Self

import aiohttp

from infra.postgres import Database
from tests.support.client import Client, Reply
from tests.support.invariants import check_invariants, check_outcomes, read_log
from tests.support.stalls import NOTICED_SECONDS, Stalls, stalls

REPLAYED = "Idempotency-Replayed"

CALLERS = 12
"""One and a half of each kind."""


_addresses = count(1)


def an_address() -> str:
    """Return an address that no client had before."""
    return str(IPv4Address("10.0.0.0") + next(_addresses))


@dataclass(frozen=True, slots=True)
class Command:
    """A change to order. Its key is its request id too, so that its events can be found in the log."""

    key: str
    events: int
    method: str
    path: str
    body: dict[str, Any]
    credential: dict[str, str]

    async def order(self, client: Client) -> Reply:
        """Order it."""
        names = {"idempotency_key": self.key, "x_request_id": self.key}
        return await client.request(self.method, self.path, self.body, **names, **self.credential)


@dataclass
class KeyedCommands:
    """What was ordered: by key, the commands, and the answers to those that had one. `enough` ends the callers."""

    client: Client
    license: dict[str, Any]
    b_license: dict[str, Any]
    commands: dict[str, Command] = field(default_factory=dict)
    answered: dict[str, Reply] = field(default_factory=dict)
    seats: list[str] = field(default_factory=lambda: [f"moved-{caller}" for caller in range(CALLERS)])
    """For each caller the device that it moves a seat from."""

    enough: bool = False

    @classmethod
    async def prepare(cls, client: Client) -> Self:
        """Make what the commands are about, by a client of a process that lives on."""
        license = await client.new_license(max_devices=100_000)
        b_license = {"email": "p@example.org", "product": "p", "edition": "e", "max_activations": 100_000}
        made = await client.b_admin("POST", "/licenses", b_license)
        assert made.status == 201, made
        commands = cls(client, license, made.body)
        for seat in commands.seats:
            assert (await client.activate(license, seat)).status == 201
        return commands

    @property
    def unanswered(self) -> list[str]:
        """Keys of the commands of which nobody knows what became of them."""
        return [key for key in self.commands if key not in self.answered]

    async def run(self, client: Client, name: str, pause_seconds: float = 0.0) -> None:
        """Order changes until there is enough or nobody answers. `name` begins the keys. All answers are successes."""
        async with stalls() as machine:
            await asyncio.gather(
                *(self._call(client, name, caller, pause_seconds, machine) for caller in range(CALLERS))
            )

    async def _call(self, client: Client, name: str, caller: int, pause_seconds: float, machine: Stalls) -> None:
        number = 0
        while not self.enough:
            number += 1
            key = f"{name}-{caller}-{number}"
            command = self._command(key, caller + number, caller)
            self.commands[key] = command
            try:
                stood_still = machine.seconds
                while (reply := await command.order(client)).status == 503:
                    # Who waited for a connection while the machine stood still is told so, and asks again by the key.
                    assert machine.seconds > stood_still + NOTICED_SECONDS, (command, reply)
                    stood_still = machine.seconds
            except (aiohttp.ClientError, OSError):
                return
            assert reply.status in {200, 201}, (command, reply)
            self.answered[key] = reply
            await asyncio.sleep(pause_seconds)

    def _command(self, key: str, kind: int, caller: int) -> Command:  # noqa: PLR0911 - one a kind
        secrets = self.client.secrets
        admin = {"x_admin_api_key": secrets.admin_api_key}
        program = {"x_api_key": self.client.api_key}
        licenses = "/api/v1/admin/licenses"
        of_license = f"{licenses}/{self.license['license_id']}"
        device = {"license_key": self.license["license_key"], "hardware_id": key}
        known = {"license_key": self.b_license["license_key"], "email": "p@example.org"}
        match kind % 8:
            case 0:
                body: dict[str, Any] = {"from_hardware_id": self.seats[caller], "to_hardware_id": key}
                self.seats[caller] = key
                return Command(key, 1, "POST", f"{of_license}/transfer", body, admin)
            case 1:
                return Command(key, 1, "POST", licenses, {"customer_id": key}, admin)
            case 2:
                body = {"licenses": [{"customer_id": key}, {"customer_id": key}, {"customer_id": key}]}
                return Command(key, 3, "POST", f"{licenses}/bulk-create", body, admin)
            case 3:
                return Command(key, 1, "PATCH", of_license, {"metadata": {"changed": key}}, admin)
            case 4:
                body = {**known, "device_hash": key, "device_name": "PC"}
                # Each from an address of its own, since these have limits by address.
                credential = {"x_client_token": secrets.client_token, "X_Forwarded_For": an_address()}
                return Command(key, 1, "POST", "/licenses-api/v1/activate", body, credential)
            case 5:
                credential = {"x_admin_secret": secrets.admin_secret}
                return Command(key, 1, "POST", "/api/v1/auth/api-key", {"client_name": key}, credential)
        return Command(key, 1, "POST", "/api/v1/license/activate", device, program)

    async def resolve(self, survivor: Client, database: Database) -> set[str]:
        """Order what was not answered once more, and some of what was: each has one answer for good.

        Return the keys of those that had been saved although nobody was told.
        """
        # Orders of the dead process may still be committing; the next command waits for them.
        await survivor.new_license()
        saved = {event.cause.request_id for _, event in read_log(database)}
        assert saved >= self.answered.keys(), "L: what was answered is stored"
        for key in [*self.answered][-20:]:
            again = await self.commands[key].order(survivor)
            assert (again.status, again.body) == (self.answered[key].status, self.answered[key].body)
            assert REPLAYED in again.headers
        untold = set(self.unanswered) & saved
        for key in self.unanswered:
            reply = await self.commands[key].order(survivor)
            assert reply.status in {200, 201}, reply
            assert (REPLAYED in reply.headers) == (key in untold)
            assert (await self.commands[key].order(survivor)).body == reply.body
            self.answered[key] = reply
        return untold

    def check(self, database: Database) -> None:
        """Assert L, S and P; all commands must have been resolved."""
        log = check_invariants(database)
        by_size: defaultdict[int, dict[str, int]] = defaultdict(dict)
        for key, reply in self.answered.items():
            by_size[self.commands[key].events][key] = reply.status
        for events, statuses in by_size.items():
            check_outcomes(log, statuses, events=events)
