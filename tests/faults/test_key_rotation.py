"""Signing keys rotated under load, on two processes: no good token is refused, and none of a key whose time is over."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import jwt
import pytest
import rfc8785
from nacl.signing import VerifyKey

from infra.postgres import Database
from tests.support.client import Client, Reply, eventually
from tests.support.cluster import Cluster
from tests.support.keyed_commands import an_address
from tests.support.nursery import Nursery, Server

CALLERS = 6
ROTATIONS = 3
ACCEPTED_AFTER_RETIREMENT = timedelta(days=31)


@dataclass(frozen=True)
class Plant:
    """Two processes that share their keys."""

    nursery: Nursery
    database: Database
    data_dir: Path
    servers: tuple[Server, Server]

    @asynccontextmanager
    async def clients(self) -> AsyncIterator[tuple[Client, Client]]:
        """Give a client of each, with one API key that has no limits."""
        async with self.servers[0].client() as one:
            one.api_key = (await one.new_api_key())["api_key"]
            async with self.servers[1].client(one.api_key) as other:
                yield one, other

    def rotate(self) -> str:
        """Rotate as an operator does; return the new key's id."""
        with self.nursery.run(self.database, self.data_dir, "keys", "rotate", "--json") as rotating:
            assert rotating.wait() == 0, rotating.log()
        kid: str = json.loads(rotating.log())["kid"]
        return kid

    def age_retired_keys(self) -> None:
        """Let retired keys look as they will when their time has just been over."""
        folder = self.data_dir / "keys" / "signing"
        for path in folder.glob("*.json"):
            key = json.loads(path.read_bytes())
            if key["retired_at"] is not None:
                retired_at = datetime.fromisoformat(key["retired_at"]) - ACCEPTED_AFTER_RETIREMENT
                path.write_text(json.dumps({**key, "retired_at": retired_at.isoformat()}))
        os.utime(folder)


@pytest.fixture
def plant(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    database, data_dir = cluster.new_database(), tmp_path_factory.mktemp("data")
    with (
        Nursery(tmp_path_factory.mktemp("logs")) as nursery,
        nursery.serve(database, data_dir) as one,
        nursery.serve(database, data_dir) as other,
    ):
        yield Plant(nursery, database, data_dir, (one, other))
        assert (one.stop(), other.stop()) == (0, 0)
        assert (one.complaints(), other.complaints()) == ([], [])
    cluster.drop(database)


@dataclass(frozen=True)
class Tokens:
    """What one device was given."""

    access: str
    refresh: str
    offline: str

    @property
    def kids(self) -> set[str]:
        """The keys that signed them."""
        return {str(jwt.get_unverified_header(token)["kid"]) for token in (self.access, self.refresh, self.offline)}

    async def uses(self, client: Client) -> list[Reply]:
        """Use each of them, everywhere that takes it."""
        offline = {"duration_hours": 1}
        return [
            await client.bearer("/api/v1/auth/verify", self.access),
            await client.bearer("/api/v1/license/heartbeat", self.access, {}),
            await client.bearer("/api/v1/license/offline-token", self.access, offline),
            await client.request("POST", "/api/v1/license/validate-offline", {"token": self.offline}),
        ]

    async def refreshed(self, client: Client) -> Reply:
        """Take new tokens for the refresh token, which is of no use any more then."""
        return await client.request("POST", "/api/v1/auth/refresh", {"refresh_token": self.refresh})


@dataclass
class Load:
    """Devices that ask for tokens of one process and use them, old ones too, on the other."""

    clients: tuple[Client, Client]
    license: dict[str, Any]
    given: list[Tokens] = field(default_factory=list)
    refused: list[Reply] = field(default_factory=list)
    enough: bool = False

    async def run(self) -> None:
        """Go on until there is enough."""
        await asyncio.gather(*map(self._call, range(CALLERS)))

    async def _call(self, caller: int) -> None:
        chance, number = Random(caller), caller
        while not self.enough:
            number += 1
            issuing, using = self.clients[number % 2], self.clients[1 - number % 2]
            # A device each time: its requests by token have limits.
            device = f"pc-{caller}-{number}"
            assert (await issuing.activate(self.license, device)).status == 201
            tokens = await self._tokens(issuing, device)
            self.given.append(tokens)
            replies = [*await tokens.uses(using), *await chance.choice(self.given).uses(issuing)]
            if number % 3 == 0:
                replies.append(await (await self._tokens(issuing, device)).refreshed(using))
            replies.append(await self._signed(issuing, using, device))
            self.refused += [reply for reply in replies if reply.status != 200]

    async def _tokens(self, client: Client, device: str) -> Tokens:
        tokens = await client.tokens(self.license, device)
        assert tokens.status == 200, tokens
        access = tokens["access_token"]
        offline = await client.bearer("/api/v1/license/offline-token", access, {"duration_hours": 24})
        assert offline.status == 200, offline
        return Tokens(access, tokens["refresh_token"], offline["token"])

    async def _signed(self, asked: Client, other: Client, device: str) -> Reply:
        """Have an answer signed, and verify it by the keys that the other process tells of afterwards."""
        reply = await asked.validate(self.license, device, fields={"nonce": "n"})
        verify(reply.body, await published(other))
        return reply


def verify(answer: dict[str, Any], keys: list[dict[str, str]]) -> None:
    """Verify a signed answer as a program would, by the published key that it names."""
    (key,) = (key for key in keys if key["kid"] == answer["kid"])
    signed = {name: value for name, value in answer.items() if name != "signature"}
    public = base64.urlsafe_b64decode(key["x"] + "=")
    VerifyKey(public).verify(rfc8785.dumps(signed), base64.b64decode(answer["signature"]))


async def test_in_the_overlap_all_is_accepted_and_after_it_nothing(plant: Plant) -> None:
    async with plant.clients() as clients:
        load = Load(clients, await clients[0].new_license(max_devices=10_000))
        running = asyncio.create_task(load.run())
        await eventually(partial(has_gone_on, load, running, 0), 20)
        kids: list[str] = []
        for _ in range(ROTATIONS):
            kids.append(await asyncio.to_thread(plant.rotate))
            await eventually(partial(has_gone_on, load, running, len(load.given)), 20)
        load.enough = True
        await running
        assert load.refused == []
        old = [tokens for tokens in load.given if tokens.kids.isdisjoint(kids[-1:])]
        new = [tokens for tokens in load.given if tokens.kids == set(kids[-1:])]
        assert len({kid for tokens in load.given for kid in tokens.kids}) == ROTATIONS + 1
        for client in clients:
            assert await published_ids(client) == [*reversed(kids), *(old[0].kids - set(kids))]

        await asyncio.to_thread(plant.age_retired_keys)
        for client in clients:
            assert await published_ids(client) == kids[-1:]
            for tokens in (old[0], old[-1]):
                replies = [*await tokens.uses(client), await tokens.refreshed(client)]
                assert [(reply.status, reply["error_code"]) for reply in replies] == [(401, "INVALID_TOKEN")] * 5
        for client in clients:
            assert {reply.status for reply in await new[-1].uses(client)} == {200}
        assert (await new[-1].refreshed(clients[0])).status == 200


async def has_gone_on(load: Load, running: asyncio.Task[None], given: int) -> bool:
    """Tell whether callers have had new tokens since there were so many, each about twice."""
    assert not running.done()
    return len(load.given) > given + 2 * CALLERS


async def published(client: Client) -> list[dict[str, str]]:
    """Return the keys that are told of, the one that signs first."""
    reply = await client.request("GET", "/.well-known/jwks.json", X_Forwarded_For=an_address())
    assert reply.status == 200, reply
    keys: list[dict[str, str]] = reply["keys"]
    return keys


async def published_ids(client: Client) -> list[str]:
    """Return the ids of the keys that are told of."""
    return [key["kid"] for key in await published(client)]
