"""Orders for the writer, and a writer over a real database, without the HTTP around them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from psycopg import Connection

from commands.application import LicensingApplication
from commands.batch import Idempotency, Outcome, Submission
from commands.orders import (
    ActivateDevice,
    CreateApiKey,
    DeactivateDevice,
    DeactivateLicense,
    IssueLicenses,
    LicenseToIssue,
    Order,
    RevokeApiKey,
    TransferSeat,
    UpdateLicense,
)
from commands.writer import GroupCommitWriter
from domain.facts import Cause
from domain.issuing import Changes, Terms
from domain.license import License
from domain.seats import Device
from infra.postgres import Database
from projections.inline_views import InlineViews


class PlainEmails:
    """Stands in for the vault: what is sealed is hashed as it is."""

    def prepare(self, subject_ids: set[UUID]) -> None:
        pass

    def email_hash(self, subject_id: UUID | None, email_sealed: bytes) -> bytes | None:
        """Return the SHA-256 of the ciphertext."""
        return None if subject_id is None else hashlib.sha256(email_sealed).digest()


@asynccontextmanager
async def running_writer(
    database: Database, connect: Callable[[], Connection[Any]] | None = None
) -> AsyncIterator[GroupCommitWriter]:
    """Run a writer on a migrated database; `connect` opens its connection another way."""
    application = LicensingApplication(database.conninfo("lizenzserver-log"), InlineViews(PlainEmails()))
    writer = GroupCommitWriter(application, connect or database.connect, database.connect_login)
    writer.start()
    try:
        yield writer
    finally:
        await writer.stop()
        application.close()


def cause() -> Cause:
    """Say that a test ordered it, under a command id of its own."""
    command_id = uuid4()
    return Cause(actor="admin:test", command="Test", command_id=command_id, request_id=command_id.hex)


def now() -> datetime:
    """Return the present, as decisions take it."""
    return datetime.now(UTC)


def issue(license_id: UUID, max_devices: int = 3, *, key_digest: bytes | None = None) -> IssueLicenses:
    """Order a licence with this id."""
    digest = key_digest or hashlib.sha256(license_id.bytes).digest()
    terms = Terms(key_digest=digest, key_sealed=b"sealed", max_devices=max_devices)
    new = LicenseToIssue(license_id=license_id, subject_id=UUID(int=9), terms=terms)
    return IssueLicenses(cause=cause(), now=now(), licenses=(new,))


def activate(license_id: UUID, hardware_id: str, **fields: Any) -> ActivateDevice:
    """Order a seat for a device; `repeatable` and what a device has besides its id may be given."""
    repeatable = fields.pop("repeatable", False)
    device = Device(hardware_id=hardware_id, **fields)
    return ActivateDevice(cause=cause(), now=now(), license_id=license_id, device=device, repeatable=repeatable)


def deactivate(license_id: UUID, hardware_id: str) -> DeactivateDevice:
    """Order a device's seat back."""
    return DeactivateDevice(cause=cause(), now=now(), license_id=license_id, hardware_id=hardware_id)


def transfer(license_id: UUID, source: str, target: str) -> TransferSeat:
    """Order a seat to another device."""
    return TransferSeat(cause=cause(), now=now(), license_id=license_id, from_hardware_id=source, to_hardware_id=target)


def update(license_id: UUID, **changes: Any) -> UpdateLicense:
    """Order other terms."""
    return UpdateLicense(cause=cause(), now=now(), license_id=license_id, changes=Changes(**changes))


def revoke(license_id: UUID) -> DeactivateLicense:
    """Order a licence's revocation."""
    return DeactivateLicense(cause=cause(), now=now(), license_id=license_id)


def create_api_key(key_id: UUID) -> CreateApiKey:
    """Order an API key."""
    return CreateApiKey(
        cause=cause(),
        now=now(),
        key_id=key_id,
        key_digest=hashlib.sha256(key_id.bytes).digest(),
        client_name="test",
        allowed_endpoints=("*",),
        requests_per_minute=None,
        requests_per_hour=5,
    )


def revoke_api_key(key_id: UUID) -> RevokeApiKey:
    """Order an API key's end."""
    return RevokeApiKey(cause=cause(), now=now(), key_id=key_id)


def limits(outcome: Outcome, _: object = None) -> bytes:
    """Answer with the limits of the licence, as the order left it."""
    state = outcome.states[0]
    return json.dumps(state.limits if isinstance(state, License) else {}).encode()


def submitted(order: Order, *, idempotency_key: str | None = None, body: str = "") -> Submission:
    """Return the order as it is given to the writer; the answer kept for a key is `sealed:` and the answer."""
    keep = None
    if idempotency_key is not None:
        scope, content = hashlib.sha256(idempotency_key.encode()), hashlib.sha256(body.encode())
        keep = Idempotency(scope.digest(), content.digest(), lambda answer: b"sealed:" + answer)
    return Submission(order, limits, idempotency=keep)


async def carry_out(writer: GroupCommitWriter, *orders: Order) -> list[Any]:
    """Have orders carried out one after the other; return answers and refusals."""
    results: list[Any] = []
    for order in orders:
        try:
            results.append(await writer.execute(submitted(order)))
        except Exception as refused:  # noqa: BLE001 - the test looks at it
            results.append(refused)
    return results
