"""`activate` and `deactivate`: a device takes a seat, or gives it up."""

from __future__ import annotations

from typing import Any

import msgspec

from api.call import Call
from api.endpoint import Auth, Endpoint
from api.responses import Answer
from api.schemas.license import ActivateRequest, ActivationAnswer, DeactivateRequest, DeactivationAnswer, Limits
from api.standings import (
    Claim,
    count_miss,
    known_line,
    license_of_key,
    noted,
    products_named,
    read_afresh,
    unknown_line,
)
from commands.batch import Outcome
from commands.orders import ActivateDevice, DeactivateDevice
from domain.errors import (
    AlreadyActivated,
    DeviceLimitExceeded,
    DeviceNotFound,
    LicenseExpired,
    LicenseInactive,
    LicenseNotFound,
    ProductMismatch,
    Refusal,
)
from domain.identifiers import license_key_digest
from domain.license import License
from domain.seats import Device
from domain.validation import of_another_product
from projections.license_keys import KeyedLicense


def limits_of(outcome: Outcome) -> Limits:
    """Return the seats of the licence that an order concerned, as it left them."""
    license = outcome.states[0]
    assert isinstance(license, License)
    return Limits(**license.limits)


async def _licensed(call: Call, license_key: str, hardware_id: str) -> KeyedLicense:
    digest = license_key_digest(license_key)
    keyed = await license_of_key(call, digest)
    if keyed is None:
        missing = count_miss(call)
        await noted(call, (digest, b""), None, await unknown_line(call, digest, "activate", hardware_id))
        raise missing
    return keyed


async def activate(call: Call) -> Answer:
    """Take a seat. Exactly one caller gets the last one, whatever races for it."""
    body: ActivateRequest = call.body
    keyed = await _licensed(call, body.license_key, body.hardware_id)
    order = ActivateDevice(
        cause=call.cause(ActivateDevice, keyed.subject_id),
        now=call.now,
        license_id=keyed.license_id,
        device=_device(call, body, keyed),
    )

    def render(outcome: Outcome, _: Any) -> bytes:
        license = outcome.states[0]
        assert isinstance(license, License)
        activation = ActivationAnswer(
            license_id=license.id,
            hardware_id=body.hardware_id,
            activated_at=outcome.recorded[0].occurred_at,
            features=license.features,
            limits=Limits(**license.limits),
        )
        return msgspec.json.encode(activation)

    try:
        return await call.execute(order, render, 201)
    except Refusal as refused:
        if isinstance(
            refused, AlreadyActivated | DeviceLimitExceeded | LicenseInactive | LicenseExpired | ProductMismatch
        ):
            await _note_failure(call, keyed, order, refused)
        raise


def _device(call: Call, body: ActivateRequest, keyed: KeyedLicense) -> Device:
    vault = call.services.vault
    sealed, name_tag = {}, None
    # Of whoever was erased, nothing personal is kept: there is no key any more to seal it under.
    has_key = vault.knows(keyed.subject_id)
    if body.device_name is not None and has_key:
        sealed["device_name"] = vault.seal(keyed.subject_id, body.device_name)
        name_tag = vault.tag(keyed.subject_id, body.device_name)
    if body.os_info is not None and has_key:
        sealed["os_info"] = vault.seal(keyed.subject_id, body.os_info)
    return Device(
        hardware_id=body.hardware_id,
        name_tag=name_tag,
        sealed=sealed,
        app_version=body.app_version,
        client_time=body.client_time,
        products=products_named(call, body.product),
    )


async def _note_failure(call: Call, keyed: KeyedLicense, order: ActivateDevice, refused: Refusal) -> None:
    """Failed activations are use too: leaked keys show in them first."""
    device = order.device
    line = known_line(
        call,
        keyed,
        "license.validation.failed",
        "activate",
        device.hardware_id,
        reason=refused.code,
        app_version=device.app_version,
        client_time=device.client_time,
        os_info_sealed=device.sealed.get("os_info"),
    )
    future, _ = call.services.usage.append((), line)
    await future


async def _check_product(call: Call, keyed: KeyedLicense, hardware_id: str) -> None:
    """Raise ProductMismatch where the API key is bound to another product than the licence's of this moment."""
    claim = Claim(device_is_active=True, products=products_named(call, None))
    if not claim.products:
        return
    current = await read_afresh(call, keyed.license_id, hardware_id)
    refused = of_another_product(current, claim, call.now) if current is not None else None
    if refused is not None:
        raise refused


async def deactivate(call: Call) -> Answer:
    """Give a seat up, as an uninstaller does."""
    body: DeactivateRequest = call.body
    keyed = await _licensed(call, body.license_key, body.hardware_id)
    await _check_product(call, keyed, body.hardware_id)
    order = DeactivateDevice(
        cause=call.cause(DeactivateDevice, keyed.subject_id),
        now=call.now,
        license_id=keyed.license_id,
        hardware_id=body.hardware_id,
    )

    def render(outcome: Outcome, _: Any) -> bytes:
        done = DeactivationAnswer(
            license_id=keyed.license_id,
            hardware_id=body.hardware_id,
            deactivated_at=call.now,
            limits=limits_of(outcome),
        )
        return msgspec.json.encode(done)

    return await call.execute(order, render)


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/v1/license/activate",
        handler=activate,
        summary="Activate a licence on a device",
        auth=Auth.API_KEY,
        body=ActivateRequest,
        answers={201: ActivationAnswer},
        refusals=(
            LicenseNotFound,
            ProductMismatch,
            LicenseInactive,
            LicenseExpired,
            AlreadyActivated,
            DeviceLimitExceeded,
        ),
        takes_idempotency_key=True,
        checks_changes=True,
        tag="license",
    ),
    Endpoint(
        method="POST",
        path="/api/v1/license/deactivate",
        handler=deactivate,
        summary="Give up a device's seat",
        auth=Auth.API_KEY,
        body=DeactivateRequest,
        answers={200: DeactivationAnswer},
        refusals=(LicenseNotFound, ProductMismatch, DeviceNotFound),
        takes_idempotency_key=True,
        tag="license",
    ),
)
