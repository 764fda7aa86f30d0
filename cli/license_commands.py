"""What the commands on single licences do, apart from the command line."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from api.body import to_struct
from api.issuing import Wanted, prepare
from api.presentation import device_answer, license_answer
from api.schemas.admin import CreateRequest
from cli.core import Workbench
from cli.csv_format import license_key
from cli.errors import Failure
from cli.export_csv import every_license
from commands.orders import IssueLicenses
from domain.errors import Invalid
from domain.identifiers import KeyFormat, license_key_digest
from projections import devices, licenses
from projections.licenses import LicenseFilter, LicenseRow

_NOBODY = UUID(int=0)
"""A subject that no licence has."""


async def create(
    bench: Workbench, given: dict[str, Any], *, metadata: str, key: str | None, key_format: KeyFormat
) -> dict[str, Any]:
    """Issue a licence and return what is shown of it. Raises Failure, or Invalid for a wrong value."""
    wanted = _wanted(given, metadata, key, key_format)
    if wanted.license_key and await licenses.by_key(bench.connection, license_key_digest(wanted.license_key)):
        raise Failure("there is a licence with this key already")
    return await bench.until_current(lambda: _issue(bench, wanted))


async def _issue(bench: Workbench, wanted: Wanted) -> dict[str, Any]:
    now = bench.clock.now()
    ((license, shown),) = await prepare(bench.vault, bench.subjects, bench.connection, [wanted], now)
    await bench.execute(IssueLicenses(cause=bench.cause(IssueLicenses), now=now, licenses=(license,)))
    return msgspec.structs.asdict(shown)


def _wanted(given: dict[str, Any], metadata: str, key: str | None, key_format: KeyFormat) -> Wanted:
    customer_id, email = given["customer_id"], given["email"]
    if not customer_id and not email:
        raise Failure("give --customer or --email")
    try:
        value = msgspec.json.decode(metadata)
    except msgspec.DecodeError as wrong:
        raise Failure(f"--metadata must be a JSON object ({wrong})") from None
    fields = {name: value for name, value in given.items() if value is not None} | {"metadata": value}
    # The rules of the HTTP interface, which needs a customer id; here an e-mail will do.
    checked = Wanted.of(to_struct({"customer_id": "-", **fields}, CreateRequest))
    try:
        own_key = license_key(key) if key is not None else None
    except ValueError as wrong:
        raise Invalid(key=str(wrong)) from None
    return msgspec.structs.replace(
        checked, customer_id=checked.customer_id if customer_id else None, license_key=own_key, key_format=key_format
    )


async def listed(
    bench: Workbench, *, customer: str | None, email: str | None, limit: int, **fields: Any
) -> tuple[list[dict[str, Any]], int]:
    """Return the newest licences that match, and how many match in all."""
    subject_id = None
    if customer is not None:
        lookup = bench.subjects.lookup_hash(customer.strip(), None)
        subject_id = await bench.subjects.find(bench.connection, lookup) or _NOBODY
    email_hash = bench.vault.lookup_hash("email", email) if email is not None else None
    wanted = LicenseFilter(subject_id=subject_id, email_hash=email_hash, **fields)
    found: list[dict[str, Any]] = []
    async for license in every_license(bench, wanted):
        found.append(msgspec.structs.asdict(license))
        if len(found) == limit:
            break
    return found, await licenses.count(bench.connection, wanted)


async def shown_in_full(bench: Workbench, key_or_id: str) -> dict[str, Any]:
    """Return a licence and its devices, by id or key. Raises Failure where there is none."""
    row = await _find(bench, key_or_id.strip())
    license = msgspec.structs.asdict(license_answer(bench.vault, row))
    rows = await devices.of_license(bench.connection, row.license_id)
    shown = [device_answer(bench.vault, row.subject_id, device) for device in rows]
    return {**license, "devices": [msgspec.structs.asdict(device) for device in shown]}


async def _find(bench: Workbench, key_or_id: str) -> LicenseRow:
    row = await licenses.by_key(bench.connection, license_key_digest(key_or_id))
    if row is None:
        try:
            row = await licenses.by_id(bench.connection, UUID(key_or_id))
        except ValueError:
            row = None
    if row is None:
        raise Failure("there is no licence with this key or id")
    return row
