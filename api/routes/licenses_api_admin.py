"""The second dialect for administrators: create, list, enable, deactivate a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from api.call import Call
from api.endpoint import Auth, Dialect, Endpoint
from api.issuing import Wanted, order_of
from api.presentation import license_fields, opened
from api.responses import Answer, answer
from api.routes.licenses_api_client import licensed
from api.schemas.licenses_api import (
    CreateLicense,
    DeactivateDevice,
    Enable,
    LicenseDevice,
    LicenseItem,
    LicenseItems,
    ListLicenses,
)
from commands import orders
from commands.batch import Outcome
from domain.errors import DeviceNotFound, LicenseNotFound
from domain.identifiers import license_key_digest
from domain.issuing import Changes
from infra.vault import Vault
from projections import devices, licenses
from projections.devices import DeviceRow
from projections.licenses import LicenseFilter, LicenseRow


async def create_license(call: Call) -> Answer:
    """Issue a perpetual licence to an e-mail address."""
    body: CreateLicense = call.body
    wanted = Wanted(
        customer_id=None,
        email=body.email.strip(),
        max_devices=body.max_activations,
        features=tuple(body.features),
        product=body.product,
        edition=body.edition,
        key_format="grouped",
    )
    order, (shown,) = await order_of(call, [wanted])
    item = LicenseItem(
        license_id=shown.license_id,
        license_key=shown.license_key,
        license_key_hash=order.licenses[0].terms.key_digest.hex(),
        email=shown.email,
        product=shown.product,
        edition=shown.edition,
        features=shown.features,
        enabled=True,
        activations=0,
        max_activations=shown.max_devices,
        created_at=shown.created_at,
        expires_at=None,
        devices=[],
    )
    shows = [order.licenses[0].subject_id]
    return await call.execute(order, lambda _, __: msgspec.json.encode(item), 201, shows=shows)


async def list_licenses(call: Call) -> Answer:
    """List licences, newest first."""
    query: ListLicenses = call.query
    services = call.services
    wanted = LicenseFilter(
        email_hash=services.vault.lookup_hash("email", query.email) if query.email is not None else None,
        product=query.product,
        edition=query.edition,
        is_active=query.enabled,
    )
    offset = (query.page - 1) * query.per_page
    async with services.pool.connection() as connection:
        rows, total = await licenses.page(connection, wanted, offset=offset, limit=query.per_page)
        active = await devices.active_of(connection, [row.license_id for row in rows])
    items = [_item(services.vault, row, active.get(row.license_id, [])) for row in rows]
    return answer(200, LicenseItems(items=items, total=total, page=query.page, per_page=query.per_page))


async def enable(call: Call) -> Answer:
    """Enable or disable a licence."""
    body: Enable = call.body
    row = await licensed(call, license_key_digest(body.license_key), body.email, "")
    order = orders.UpdateLicense(
        cause=call.cause(orders.UpdateLicense, row.subject_id),
        now=call.now,
        license_id=row.license_id,
        changes=Changes(is_active=body.enabled),
    )
    return await call.execute(order, _shown_after(call, row), needs_views=True, shows=[row.subject_id])


async def deactivate_device(call: Call) -> Answer:
    """Take a device's seat back."""
    body: DeactivateDevice = call.body
    row = await licensed(call, license_key_digest(body.license_key), body.email, body.device_hash)
    order = orders.DeactivateDevice(
        cause=call.cause(orders.DeactivateDevice, row.subject_id),
        now=call.now,
        license_id=row.license_id,
        hardware_id=body.device_hash,
    )
    return await call.execute(order, _shown_after(call, row), needs_views=True, shows=[row.subject_id])


def _shown_after(call: Call, row: LicenseRow) -> Any:
    """Render the licence and its devices as the transaction has left them."""

    def render(_: Outcome, connection: Any) -> bytes:
        stored = connection.execute(licenses.BY_ID, (row.license_id,)).fetchone()
        found = connection.execute(devices.OF_LICENSE, (row.license_id,)).fetchall()
        active = [device for one in found if (device := DeviceRow(**one)).is_active]
        return msgspec.json.encode(_item(call.services.vault, licenses.row_of(stored), active))

    return render


def _item(vault: Vault, row: LicenseRow, active: Sequence[DeviceRow]) -> LicenseItem:
    fields = license_fields(vault, row)
    return LicenseItem(
        license_id=row.license_id,
        license_key=fields["license_key"],
        license_key_hash=bytes(row.key_digest).hex(),
        email=fields["email"],
        product=row.product,
        edition=row.edition,
        features=row.features,
        enabled=row.is_active,
        activations=row.current_devices,
        max_activations=row.max_devices,
        created_at=row.created_at,
        expires_at=row.expires_at,
        devices=[
            LicenseDevice(
                device_hash=device.hardware_id,
                device_name=opened(vault, row.subject_id, device.device_name_sealed),
                activated_at=device.activated_at,
            )
            for device in active
        ],
    )


_PATH = "/licenses-api/v1/admin"

ENDPOINTS = (
    Endpoint(
        method="POST",
        path=f"{_PATH}/licenses",
        handler=create_license,
        summary="Create a licence",
        auth=Auth.ADMIN_TOKEN,
        dialect=Dialect.LICENSES_API,
        body=CreateLicense,
        answers={201: LicenseItem},
        takes_idempotency_key=True,
        tag="licenses-api",
    ),
    Endpoint(
        method="GET",
        path=f"{_PATH}/licenses",
        handler=list_licenses,
        summary="List licences",
        auth=Auth.ADMIN_TOKEN,
        dialect=Dialect.LICENSES_API,
        query=ListLicenses,
        answers={200: LicenseItems},
        tag="licenses-api",
    ),
    Endpoint(
        method="POST",
        path=f"{_PATH}/licenses/enable",
        handler=enable,
        summary="Enable or disable a licence",
        auth=Auth.ADMIN_TOKEN,
        dialect=Dialect.LICENSES_API,
        body=Enable,
        answers={200: LicenseItem},
        refusals=(LicenseNotFound,),
        takes_idempotency_key=True,
        tag="licenses-api",
    ),
    Endpoint(
        method="POST",
        path=f"{_PATH}/deactivate-device",
        handler=deactivate_device,
        summary="Deactivate a device",
        auth=Auth.ADMIN_TOKEN,
        dialect=Dialect.LICENSES_API,
        body=DeactivateDevice,
        answers={200: LicenseItem},
        refusals=(LicenseNotFound, DeviceNotFound),
        takes_idempotency_key=True,
        tag="licenses-api",
    ),
)
