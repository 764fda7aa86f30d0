"""A licence's devices for administrators: list, deactivate one, transfer a seat."""

from __future__ import annotations

from typing import Any

import msgspec

from api.call import Call
from api.endpoint import Auth, Endpoint
from api.past_answers import devices_then, last_event
from api.presentation import device_answer
from api.responses import Answer, answer
from api.routes.activate import limits_of
from api.routes.admin_licenses import existing_license, license_id_of
from api.schemas.admin import (
    DeactivateDeviceAnswer,
    DeactivateDeviceRequest,
    DeviceList,
    TransferAnswer,
    TransferRequest,
)
from api.schemas.history import AsOfQuery, moment_of
from api.time_travel import license_at
from commands.batch import Outcome
from commands.orders import DeactivateDevice, TransferSeat
from domain.errors import AlreadyActivated, DeviceNotFound, LicenseNotFound
from projections import devices
from projections.licenses import LicenseRow


async def list_devices(call: Call) -> Answer:
    """List the devices that hold or held a seat, or those that did then."""
    query: AsOfQuery = call.query
    if query.as_of is not None:
        then, opener = await license_at(call, license_id_of(call), moment_of(query.as_of, "as_of"), "as_of")
        past = DeviceList(
            devices=await devices_then(opener, then), as_of=last_event(then.last), personal_data=opener.personal_data
        )
        return answer(200, past)
    row = await existing_license(call)
    async with call.services.pool.connection() as connection:
        found = await devices.of_license(connection, row.license_id)
    shown = [device_answer(call.services.vault, row.subject_id, device) for device in found]
    return answer(200, DeviceList(devices=shown))


async def deactivate_device(call: Call) -> Answer:
    """Take a device's seat back."""
    body: DeactivateDeviceRequest = call.body
    row = await existing_license(call)
    order = DeactivateDevice(
        cause=call.cause(DeactivateDevice, row.subject_id),
        now=call.now,
        license_id=row.license_id,
        hardware_id=body.hardware_id,
        sealed=_sealed_reason(call, row, body.reason),
    )

    def render(outcome: Outcome, _: Any) -> bytes:
        done = DeactivateDeviceAnswer(
            license_id=row.license_id,
            hardware_id=body.hardware_id,
            deactivated_at=call.now,
            limits=limits_of(outcome),
        )
        return msgspec.json.encode(done)

    return await call.execute(order, render)


async def transfer(call: Call) -> Answer:
    """Move a seat from one device to another."""
    body: TransferRequest = call.body
    row = await existing_license(call)
    order = TransferSeat(
        cause=call.cause(TransferSeat, row.subject_id),
        now=call.now,
        license_id=row.license_id,
        from_hardware_id=body.from_hardware_id,
        to_hardware_id=body.to_hardware_id,
        sealed=_sealed_reason(call, row, body.reason),
    )

    def render(outcome: Outcome, _: Any) -> bytes:
        done = TransferAnswer(
            license_id=row.license_id,
            from_hardware_id=body.from_hardware_id,
            to_hardware_id=body.to_hardware_id,
            transferred_at=call.now,
            limits=limits_of(outcome),
        )
        return msgspec.json.encode(done)

    return await call.execute(order, render)


def _sealed_reason(call: Call, row: LicenseRow, reason: str | None) -> dict[str, bytes]:
    """Seal a reason; it is not kept where there is no key any more to seal it under."""
    vault = call.services.vault
    return {} if reason is None or not vault.knows(row.subject_id) else {"reason": vault.seal(row.subject_id, reason)}


_PATH = "/api/v1/admin/licenses/{license_id}"

ENDPOINTS = (
    Endpoint(
        method="GET",
        path=f"{_PATH}/devices",
        handler=list_devices,
        summary="List a licence's devices, or those of then",
        auth=Auth.ADMIN_KEY,
        query=AsOfQuery,
        answers={200: DeviceList},
        refusals=(LicenseNotFound,),
        tag="devices",
    ),
    Endpoint(
        method="POST",
        path=f"{_PATH}/devices/deactivate",
        handler=deactivate_device,
        summary="Deactivate a device",
        auth=Auth.ADMIN_KEY,
        body=DeactivateDeviceRequest,
        answers={200: DeactivateDeviceAnswer},
        refusals=(LicenseNotFound, DeviceNotFound),
        takes_idempotency_key=True,
        tag="devices",
    ),
    Endpoint(
        method="POST",
        path=f"{_PATH}/transfer",
        handler=transfer,
        summary="Transfer a seat between devices",
        auth=Auth.ADMIN_KEY,
        body=TransferRequest,
        answers={200: TransferAnswer},
        refusals=(LicenseNotFound, DeviceNotFound, AlreadyActivated),
        takes_idempotency_key=True,
        tag="devices",
    ),
)
