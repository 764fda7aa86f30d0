"""The second dialect for programs: activate, deactivate, public key."""

from __future__ import annotations

import base64
import hmac
from datetime import datetime, timedelta
from typing import Any

import msgspec

from api.call import Call
from api.endpoint import Auth, Dialect, Endpoint
from api.presentation import opened
from api.responses import Answer, answer
from api.schemas.licenses_api import Activate, Activated, Deactivate, Deactivated, PublicKey, PublicKeyEntry
from api.standings import noted, unknown_line
from commands.batch import Outcome
from commands.orders import ActivateDevice, DeactivateDevice
from domain.errors import (
    DeviceLimitExceeded,
    DeviceNotFound,
    LicenseExpired,
    LicenseInactive,
    LicenseNotFound,
)
from domain.identifiers import license_key_digest
from domain.license import License
from domain.seats import Device
from infra.signatures import public_key_pem, sign_answer
from projections import licenses
from projections.licenses import LicenseRow

ALGORITHM = "Ed25519"


async def licensed(call: Call, key_digest: bytes, email: str | None, hardware_id: str) -> LicenseRow:
    """Return the licence of a key, and of an e-mail where one is given; its subject's key is in memory.

    A wrong e-mail and an unknown key are told apart neither by the answer nor by the time it takes. Raises
    LicenseNotFound, RateLimitExceeded after 20 misses of one address in ten minutes.
    """
    services = call.services
    async with services.pool.connection() as connection:
        row = await licenses.by_key(connection, key_digest)
    asked = services.vault.lookup_hash("email", email) if email is not None else None
    known = bytes(row.email_hash) if row is not None and row.email_hash is not None else b""
    if row is not None and (asked is None or hmac.compare_digest(asked, known)):
        services.vault.take(row.subject_id, row.wrapped_key)
        return row
    if not call.credential.actor.startswith("admin:"):
        await _count_miss(call, key_digest, hardware_id)
    raise LicenseNotFound("license not found")


async def _count_miss(call: Call, key_digest: bytes, hardware_id: str) -> None:
    call.services.licenses_api_misses.record(call.origin.limit_key, call.services.clock.monotonic())
    await noted(call, (key_digest, b""), None, await unknown_line(call, key_digest, "activate", hardware_id))


async def activate(call: Call) -> Answer:
    """Give the device a seat, or its token again, and sign what it may do for a short time."""
    body: Activate = call.body
    row = await licensed(call, license_key_digest(body.license_key), body.email, body.device_hash)
    vault = call.services.vault
    if not vault.knows(row.subject_id):
        # It was found by its e-mail, and erased since: nobody has that e-mail any more.
        raise LicenseNotFound("license not found")
    device = Device(
        hardware_id=body.device_hash,
        name_tag=vault.tag(row.subject_id, body.device_name),
        sealed={"device_name": vault.seal(row.subject_id, body.device_name)},
    )
    order = ActivateDevice(
        cause=call.cause(ActivateDevice, row.subject_id),
        now=call.now,
        license_id=row.license_id,
        device=device,
        repeatable=True,
    )
    email = opened(vault, row.subject_id, row.email_sealed)

    def render(outcome: Outcome, _: Any) -> bytes:
        license = outcome.states[0]
        assert isinstance(license, License)
        fields = {
            "license_key_hash": bytes(row.key_digest).hex(),
            "email": email,
            "product": license.product,
            "edition": license.edition,
            "features": list(license.features),
            "device_hash": body.device_hash,
            "device_name": body.device_name,
            "activations": license.current_devices,
            "max_activations": license.max_devices,
            "issued_at": call.now,
            "expires_at": _token_end(call, license.expires_at),
        }
        return msgspec.json.encode(sign_answer(call.services.keyring, msgspec.to_builtins(fields)))

    return await call.execute(order, render, shows=[row.subject_id])


def _token_end(call: Call, license_end: datetime | None) -> datetime:
    end = call.now + timedelta(hours=call.services.settings.licenses_api_token_hours)
    return end if license_end is None else min(end, license_end)


async def deactivate(call: Call) -> Answer:
    """Give up a device's seat."""
    body: Deactivate = call.body
    digest = bytes.fromhex(body.license_key_hash)
    row = await licensed(call, digest, None, body.device_hash)
    order = DeactivateDevice(
        cause=call.cause(DeactivateDevice, row.subject_id),
        now=call.now,
        license_id=row.license_id,
        hardware_id=body.device_hash,
    )

    def render(outcome: Outcome, _: Any) -> bytes:
        license = outcome.states[0]
        assert isinstance(license, License)
        done = Deactivated(
            license_key_hash=digest.hex(),
            device_hash=body.device_hash,
            activations=license.current_devices,
            max_activations=license.max_devices,
        )
        return msgspec.json.encode(done)

    return await call.execute(order, render)


async def public_key(call: Call) -> Answer:
    """Give the keys that signatures verify with."""
    pairs = call.services.keyring.accepted(call.now)
    keys = [
        PublicKeyEntry(
            kid=pair.kid,
            public_key=base64.b64encode(pair.public_raw).decode(),
            pem=public_key_pem(pair.public_raw),
        )
        for pair in pairs
    ]
    first = keys[0]
    return answer(200, PublicKey(alg=ALGORITHM, kid=first.kid, public_key=first.public_key, pem=first.pem, keys=keys))


_PATH = "/licenses-api/v1"

ENDPOINTS = (
    Endpoint(
        method="POST",
        path=f"{_PATH}/activate",
        handler=activate,
        summary="Activate a device and get a signed token",
        auth=Auth.CLIENT_TOKEN,
        dialect=Dialect.LICENSES_API,
        body=Activate,
        answers={200: Activated},
        refusals=(LicenseNotFound, LicenseInactive, LicenseExpired, DeviceLimitExceeded),
        takes_idempotency_key=True,
        tag="licenses-api",
    ),
    Endpoint(
        method="POST",
        path=f"{_PATH}/deactivate",
        handler=deactivate,
        summary="Deactivate a device",
        auth=Auth.CLIENT_TOKEN,
        dialect=Dialect.LICENSES_API,
        body=Deactivate,
        answers={200: Deactivated},
        refusals=(LicenseNotFound, DeviceNotFound),
        takes_idempotency_key=True,
        tag="licenses-api",
    ),
    Endpoint(
        method="GET",
        path=f"{_PATH}/public-key",
        handler=public_key,
        summary="Get the public keys",
        auth=Auth.EITHER_TOKEN,
        dialect=Dialect.LICENSES_API,
        answers={200: PublicKey},
        tag="licenses-api",
    ),
)
