"""Load, decide, save, as the event-sourcing library's documentation shows it, behind an otherwise empty handler.

`python -m bench.baselines.load_decide_save PORT CONNINFO`. Licences are made by `prepare`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec
from aiohttp import web
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from psycopg.conninfo import conninfo_to_dict

from api.schemas.license import ActivateRequest, ActivationAnswer, Limits
from bench.baselines.empty_aiohttp import FEATURES, answer
from bench.baselines.serving import serve
from bench.fill import license_key

activate_request = msgspec.json.Decoder(ActivateRequest).decode


class NoSeat(Exception):
    """All seats are taken, or this device has one."""


class License(Aggregate):
    """A licence by its key."""

    @event("Issued")
    def __init__(self, key: str, max_devices: int) -> None:
        self.key = key
        self.max_devices = max_devices
        self.devices: list[str] = []

    @staticmethod
    def create_id(key: str) -> UUID:
        """Return the id that a key stands for."""
        return uuid5(NAMESPACE_URL, f"/licences/{key}")

    @event("Activated")
    def activate(self, hardware_id: str) -> None:
        """Take a seat. Raises NoSeat."""
        if hardware_id in self.devices or len(self.devices) >= self.max_devices:
            raise NoSeat
        self.devices.append(hardware_id)


class Licensing(Application[UUID]):
    """Licences over the library's own store."""

    def activate(self, key: str, hardware_id: str) -> License:
        """Give a device a seat, and return the licence."""
        license: License = self.repository.get(License.create_id(key))
        license.activate(hardware_id)
        self.save(license)
        return license


def application(conninfo: str) -> Licensing:
    """Open the library's application on a database."""
    given = conninfo_to_dict(conninfo)
    return Licensing(
        env={
            "PERSISTENCE_MODULE": "eventsourcing.postgres",
            "POSTGRES_DBNAME": str(given["dbname"]),
            "POSTGRES_HOST": str(given["host"]),
            "POSTGRES_USER": str(given["user"]),
            "POSTGRES_PASSWORD": "-",
        }
    )


def prepare(conninfo: str, count: int, seats: int) -> None:
    """Issue so many licences."""
    with application(conninfo) as app:
        for first in range(0, count, 500):
            app.save(*(License(license_key(n), seats) for n in range(first, min(first + 500, count))))


LICENSING = web.AppKey("licensing", Licensing)


async def activate(request: web.Request) -> web.Response:
    body = activate_request(await request.read())
    license = await asyncio.to_thread(request.app[LICENSING].activate, body.license_key, body.hardware_id)
    return answer(
        ActivationAnswer(
            license_id=license.id,
            hardware_id=body.hardware_id,
            activated_at=datetime.now(UTC),
            features=FEATURES,
            limits=Limits(max_devices=license.max_devices, current_devices=len(license.devices)),
        )
    )


async def opened(app: web.Application) -> AsyncIterator[None]:
    with application(sys.argv[2]) as licensing:
        app[LICENSING] = licensing
        yield


if __name__ == "__main__":
    serve(int(sys.argv[1]), {"/api/v1/license/activate": activate}, opened)
