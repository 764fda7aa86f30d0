"""Programs and administrators that do all that they may, at random: what they choose follows from a seed.

Commands change something and have an idempotency key each. Beside them, programs validate and send heartbeats.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from types import TracebackType
from typing import Any, Self

import aiohttp

from tests.support.answers import LOST, Answers, Command
from tests.support.client import Client, Reply, Secrets

CALLERS = 24
RECENT = 300
"""Licences that are worked with; older ones rest."""
GIVE_UP_SECONDS = 5.0
PAUSE_SECONDS = 0.15
"""After a lost or unavailable answer, as a program would."""
GUESSES = 20
"""Unknown keys that somebody tries in each run: enough to be noticed, and for the limit on that."""
USES_A_COMMAND = 0.25
BLIND = 0.2
"""Of commands, those that do not go by what is known of a licence."""
BEGUN = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Made:
    """A licence of the load's own. `email` is set where it is one of the second dialect.

    `seated` are devices that seem to hold a seat, by what their callers were told: most commands go by that.
    """

    id: str
    key: str
    seats: int
    email: str | None = None
    seated: set[str] = field(default_factory=set)

    def device(self, chance: random.Random, *, seated: bool) -> str:
        """Return a device that seems to hold a seat, or none; now and then, or where there is none such, any."""
        devices = [f"pc-{number}" for number in range(self.seats + 2)]
        fitting = [device for device in devices if (device in self.seated) == seated]
        return chance.choice(devices if not fitting or chance.random() < BLIND else fitting)


class Load:
    """Callers of some API processes, within `async with`. `done` counts commands that were answered or lost."""

    def __init__(self, servers: dict[str, str], answers: Answers, seed: str) -> None:
        self.answers = answers
        self.done = 0
        self.uses = 0
        self.heartbeats = 0
        self._servers = servers
        self._seed = seed
        self._clients: dict[str, Client] = {}
        self._recent: deque[Made] = deque(maxlen=RECENT)
        self._numbers = count(1)
        self._marks = count(1)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for name, base in self._servers.items():
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(GIVE_UP_SECONDS)
            )
            self._clients[name] = Client(await self._stack.enter_async_context(session), base, Secrets())
        first = next(iter(self._clients.values()))
        api_key = (await first.new_api_key())["api_key"]
        for client in self._clients.values():
            client.api_key = api_key
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def client(self, name: str) -> Client:
        return self._clients[name]

    async def run(self, commands: int, name: str, callers: int = CALLERS) -> None:
        """Carry out so many commands; what is chosen follows from the seed and this name."""
        left = iter(range(commands))
        await asyncio.gather(
            *(self._caller(random.Random(f"{self._seed}/{name}/{number}"), left) for number in range(callers)),
            self._guess(random.Random(f"{self._seed}/{name}/guesses")),
        )

    async def resolve(self, name: str) -> int:
        """Ask for all lost answers by their keys, many at a time; return how many there were."""
        return await self.answers.resolve(self._clients[name])

    async def _caller(self, chance: random.Random, left: Any) -> None:
        names: Sequence[str] = list(self._clients)
        for _ in left:
            name = chance.choice(names)
            client = self._clients[name]
            reply = await self._command(client, chance)
            self.done += 1
            if chance.random() < USES_A_COMMAND:
                await self._use(name, client, chance)
            if reply is None or reply.status == 503:
                await asyncio.sleep(PAUSE_SECONDS)

    async def _command(self, client: Client, chance: random.Random) -> Reply | None:
        number = next(self._numbers)
        id = f"soak-{number}"
        share = chance.random()
        if share < 0.05 or len(self._recent) < 20:
            return await self._issue(client, chance, id)
        license = chance.choice(self._recent)
        if license.email is not None and share < 0.6:
            return await self._second_dialect(client, chance, id, license)
        command = _change(client, chance, id, license, share)
        reply = await self.answers.ask(client, command)
        if reply is not None and reply.status in {200, 201} and command.body is not None:
            _note_seats(license, command.path, command.body)
        return reply

    async def _issue(self, client: Client, chance: random.Random, id: str) -> Reply | None:
        """Make a licence, three at once, or one of the second dialect."""
        admin = {"X-Admin-API-Key": client.secrets.admin_api_key}
        seats = chance.randint(1, 5)
        body: dict[str, Any] = {"customer_id": f"customer-{chance.randrange(500)}", "max_devices": seats}
        kind = chance.random()
        if kind < 0.15:
            path = "/api/v1/admin/licenses/bulk-create"
            command = Command(id, "POST", path, {"licenses": [body] * 3}, admin, least=3, most=3)
        elif kind < 0.35:
            email = f"{id}@example.com"
            terms = {"email": email, "product": "Avion", "edition": "Pro", "max_activations": seats}
            token = {"X-Admin-Token": client.secrets.admin_token}
            reply = await self.answers.ask(client, Command(id, "POST", "/licenses-api/v1/admin/licenses", terms, token))
            if reply is not None and reply.status == 201:
                self._recent.append(Made(reply["license_id"], reply["license_key"], seats, email))
            return reply
        else:
            command = Command(id, "POST", "/api/v1/admin/licenses", {**body, "email": f"{id}@example.com"}, admin)
        reply = await self.answers.ask(client, command)
        if reply is not None and reply.status == 201:
            for made in reply.body.get("licenses", [reply.body]):
                self._recent.append(Made(made["license_id"], made["license_key"], seats))
        return reply

    async def _second_dialect(self, client: Client, chance: random.Random, id: str, license: Made) -> Reply | None:
        """Activate, also again, perhaps under another name."""
        device = license.device(chance, seated=False)
        body = {"license_key": license.key, "email": license.email, "device_hash": device}
        body["device_name"] = f"PC {chance.randrange(2)}"
        # Programs of this dialect have a limit by address.
        address = f"198.18.{chance.randrange(256)}.{chance.randrange(256)}"
        token = {"X-Client-Token": client.secrets.client_token, "X-Forwarded-For": address}
        return await self.answers.ask(client, Command(id, "POST", "/licenses-api/v1/activate", body, token, least=0))

    async def _use(self, name: str, client: Client, chance: random.Random) -> None:
        """Validate, under a time that no other validation has; now and then send a heartbeat."""
        if not self._recent:
            return
        license = chance.choice(self._recent)
        device = license.device(chance, seated=True)
        if chance.random() < 0.1:
            await self._heartbeat(client, license, device)
            return
        mark = BEGUN + timedelta(milliseconds=next(self._marks))
        body = {"license_key": license.key, "hardware_id": device, "client_time": mark.isoformat()}
        body["app_version"] = f"{chance.randrange(3)}.0"
        try:
            reply = await client.program("/api/v1/license/validate", body)
        except LOST:
            self.answers.note_use(mark, None, name)
            return
        self.uses += 1
        self.answers.look_at("a validation", reply)
        self.answers.note_use(mark, reply.status, name)

    async def _guess(self, chance: random.Random) -> None:
        """Try keys that nobody has, from an address of one's own."""
        address = f"198.19.{chance.randrange(256)}.{chance.randrange(256)}"
        client = chance.choice(list(self._clients.values()))
        for number in range(GUESSES):
            body = {"license_key": f"LIC-GUESS{number:07d}", "hardware_id": "guesser"}
            try:
                reply = await client.program("/api/v1/license/validate", body, x_forwarded_for=address)
            except LOST:
                return
            self.answers.look_at("a guess", reply)

    async def _heartbeat(self, client: Client, license: Made, device: str) -> None:
        try:
            tokens = await client.tokens({"license_id": license.id}, device)
            self.answers.look_at("a request for a token", tokens)
            if tokens.status == 200:
                reply = await client.bearer("/api/v1/license/heartbeat", tokens["access_token"], {})
                self.answers.look_at("a heartbeat", reply)
                self.heartbeats += 1
        except LOST:
            pass


def _change(client: Client, chance: random.Random, id: str, license: Made, share: float) -> Command:
    """Return a command about a licence's seats or its terms."""
    program = {"X-API-Key": client.api_key}
    admin = {"X-Admin-API-Key": client.secrets.admin_api_key}
    one = f"/api/v1/admin/licenses/{license.id}"
    if share < 0.50 and (len(license.seated) < license.seats or chance.random() < BLIND):
        body: dict[str, Any] = {"license_key": license.key, "hardware_id": license.device(chance, seated=False)}
        body |= {"device_name": "PC", "os_info": {"name": "Linux"}}
        return Command(id, "POST", "/api/v1/license/activate", body, program)
    if share < 0.75:
        body = {"license_key": license.key, "hardware_id": license.device(chance, seated=True)}
        return Command(id, "POST", "/api/v1/license/deactivate", body, program)
    if share < 0.87:
        source, target = license.device(chance, seated=True), license.device(chance, seated=False)
        if target == source:
            target = "pc-new"
        move = {"from_hardware_id": source, "to_hardware_id": target, "reason": "a new machine"}
        return Command(id, "POST", f"{one}/transfer", move, admin)
    return Command(id, *_of_terms(chance, id, license, one, share), admin, least=0 if share >= 0.90 else 1)


def _note_seats(license: Made, path: str, body: dict[str, Any]) -> None:
    """Note what a success says of a licence's seats."""
    if path.endswith("/deactivate"):
        license.seated.discard(body["hardware_id"])
    elif path.endswith("/activate"):
        license.seated.add(body["hardware_id"])
    elif path.endswith("/transfer"):
        license.seated.discard(body["from_hardware_id"])
        license.seated.add(body["to_hardware_id"])


def _of_terms(
    chance: random.Random, id: str, license: Made, one: str, share: float
) -> tuple[str, str, dict[str, Any] | None]:
    """Return method, path and body of an administrator's command about one licence."""
    if share < 0.90:
        return (
            "POST",
            f"{one}/devices/deactivate",
            {"hardware_id": license.device(chance, seated=True), "reason": "lost"},
        )
    if share < 0.91:
        return "DELETE", one, None
    if share < 0.97:
        return "PATCH", one, {"is_active": True}
    terms: dict[str, Any] = chance.choice(
        [{"max_devices": chance.randint(1, 6)}, {"features": ["a", "b"]}, {"metadata": {"note": id}}, {"edition": id}]
    )
    return "PATCH", one, terms
