"""What clients were told, for the checker to compare with the logs; and asking again for what they were not told."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import aiohttp

from tests.support.client import Client, Reply
from tests.support.seat_fold import Finding

LOST = (aiohttp.ClientError, OSError, TimeoutError)
"""How a client learns that there will be no answer."""

REPLAYS_KEPT = 2000
AT_ONCE = 16


class Outcome(NamedTuple):
    """The last answer to a command, None where there was none; and how many events a success promises."""

    status: int | None
    least: int = 1
    most: int = 1

    def allows(self, events: int) -> bool:
        if self.status is not None and 200 <= self.status < 300:
            return self.least <= events <= self.most
        return events == 0


class UseOutcome(NamedTuple):
    """The answer to a validation, and whether its row must be in the usage log if it was a success."""

    status: int | None
    server: str
    is_sure: bool


@dataclass(frozen=True, slots=True)
class Command:
    """A changing request. Its id is also its idempotency key, so it can be found in the log and asked again."""

    id: str
    method: str
    path: str
    body: dict[str, Any] | None
    headers: dict[str, str] = field(default_factory=dict)
    least: int = 1
    most: int = 1

    async def send(self, client: Client) -> Reply:
        headers = {**self.headers, "Idempotency-Key": self.id, "X-Request-ID": self.id}
        return await client.request(self.method, self.path, self.body, **headers)


class Answers:
    """Notes each answer. `is_down` says that a 503 is in its place now; `findings` are those of answers alone."""

    def __init__(self, prefix: str = "") -> None:
        self.outcomes: dict[str, Outcome] = {}
        self.uses: dict[datetime, UseOutcome] = {}
        self.open: dict[str, Command] = {}
        self.findings: list[Finding] = []
        self.statuses: dict[int | None, int] = {}
        self.is_down = True
        self.is_complete = False
        self._prefix = prefix
        self._doubtful: dict[str, Command] = {}
        self._recent_uses: list[datetime] = []
        self._answered: dict[str, tuple[Command, int, Any]] = {}

    def is_mine(self, request_id: str) -> bool:
        """Tell whether a request id is one that only these answers' commands have."""
        return bool(self._prefix) and request_id.startswith(self._prefix)

    def note(self, request_id: str, status: int | None, *, least: int = 1, most: int = 1) -> None:
        """Note the answer to a command, None for a lost one. A later answer to the same id takes its place."""
        self.outcomes[request_id] = Outcome(status, least, most)

    def note_use(self, mark: datetime, status: int | None, server: str = "", *, is_sure: bool = True) -> None:
        """Note the answer to a validation, whose `client_time` no other has."""
        self.uses[mark] = UseOutcome(status, server, is_sure)
        self._recent_uses.append(mark)

    def forgive(self, server: str) -> None:
        """Let rows be missing that a server held in memory when it was killed: those since the last `settle`."""
        for mark in self._recent_uses:
            if self.uses[mark].server == server:
                self.uses[mark] = self.uses[mark]._replace(is_sure=False)

    def settle(self) -> None:
        """Say that all has been checked up to here: what was found to be stored must stay."""
        self._recent_uses.clear()

    def look_at(self, what: str, reply: Reply) -> None:
        """X: note a 5xx that has no place."""
        self.statuses[reply.status] = self.statuses.get(reply.status, 0) + 1
        if reply.status == 503:
            if "Retry-After" not in reply.headers:
                self.findings.append(Finding("X", f"{what} got 503 without Retry-After"))
            if not self.is_down:
                self.findings.append(Finding("X", f"{what} got 503 of a server that is not down: {reply.body}"))
        elif reply.status >= 500:
            self.findings.append(Finding("X", f"{what} got {reply.status}: {reply.body}"))

    async def ask(self, client: Client, command: Command) -> Reply | None:
        """Send a command and note its answer; None where it was lost."""
        try:
            reply = await command.send(client)
        except LOST:
            self.statuses[None] = self.statuses.get(None, 0) + 1
            self.note(command.id, None, least=command.least, most=command.most)
            self.open[command.id] = command
            return None
        self.look_at(command.id, reply)
        self.note(command.id, reply.status, least=command.least, most=command.most)
        if reply.status == 503:
            self.open[command.id] = command
        else:
            was_open = self.open.pop(command.id, None) is not None
            if was_open and reply.status >= 400:
                self._doubtful[command.id] = command
            if 200 <= reply.status < 300 and len(self._answered) < REPLAYS_KEPT:
                self._answered[command.id] = (command, reply.status, reply.body)
        return reply

    async def resolve(self, client: Client, seconds: float = 60.0) -> int:
        """Ask again, by their keys, for all answers that were lost or 503; return how many there were."""
        waiting = list(self.open.values())
        left = iter(waiting)

        async def ask() -> None:
            for command in left:
                while command.id in self.open:
                    reply = await self.ask(client, command)
                    if reply is None or reply.status == 503:
                        await asyncio.sleep(0.1)

        async with asyncio.timeout(seconds):
            await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
        return len(waiting)

    async def resolve_doubts(self, client: Client) -> None:
        """Ask once more for what was refused after a first answer was lost, now that nothing is under way any more.

        A first request that hangs somewhere may still be carried out after the second one was refused.
        """
        doubtful, self._doubtful = self._doubtful, {}
        for command in doubtful.values():
            await self.ask(client, command)

    async def replay(self, client: Client, chance: random.Random, most: int) -> int:
        """L: ask again for some answers that were given; the same must come. Return for how many."""
        chosen = chance.sample(sorted(self._answered), min(most, len(self._answered)))
        for request_id in chosen:
            command, status, body = self._answered[request_id]
            reply = await command.send(client)
            if (reply.status, reply.body) != (status, body) or "Idempotency-Replayed" not in reply.headers:
                text = f"{request_id} was told {status} {body}, and then {reply.status} {reply.body}"
                self.findings.append(Finding("L", text))
        self._answered.clear()
        return len(chosen)
