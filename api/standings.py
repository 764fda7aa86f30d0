"""Reading where a device stands, and the round trip after which the answer is known to be current."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import date
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from api.call import Call
from api.credentials import identify
from api.late_checks import still_holds
from api.shared_reads import SharedReads
from commands.usage_log import Checks
from commands.usage_row import Operation, UsageType, usage_line
from domain.errors import LicenseNotFound
from domain.identifiers import device_digest
from infra.vault import Vault
from projections.license_keys import KeyedLicense
from projections.standing import Standing
from projections.verdicts import Key


class Claim(msgspec.Struct, frozen=True, gc=False):
    """A device that wants to run, under these products."""

    device_is_active: bool
    products: tuple[str, ...] = ()


def products_named(call: Call, requested: str | None) -> tuple[str, ...]:
    """Return the products that the request and its API key name."""
    bound = call.credential.api_key.product if call.credential.api_key else None
    if requested is None and bound is None:
        return ()
    return tuple(product for product in (requested, bound) if product is not None)


def read_by_key(call: Call, key_digest: bytes, hardware_id: str) -> Awaitable[tuple[Key, Standing | None]]:
    """Return the standing of a device with a licence key, from memory where that is safe."""
    return _read(call, call.services.standings_by_key, key_digest, hardware_id)


def read_by_id(call: Call, license_id: UUID, hardware_id: str) -> Awaitable[tuple[Key, Standing | None]]:
    """Return the standing of a device with a licence id, from memory where that is safe."""
    # Bytes are hashed and compared several times as fast as UUIDs.
    return _read(call, call.services.standings_by_id, license_id.bytes, hardware_id)


async def _read(
    call: Call, reads: SharedReads[Key, Standing], license: bytes, hardware_id: str
) -> tuple[Key, Standing | None]:
    key: Key = (license, device_digest(hardware_id))
    services = call.services
    monotonic = services.clock.monotonic()
    found = services.standings.get(key, monotonic, is_away=services.pulse.is_away)
    if found is None:
        try:
            found = await reads.read(key)
        except psycopg.OperationalError:
            # Perhaps this is how it was found out that the database is away.
            found = services.standings.get(key, monotonic, is_away=services.pulse.is_away)
            if found is None:
                raise
            return key, found
        _remember_subject(services.vault, found)
        if found is not None:
            # The vault has the key now.
            services.standings.put(key, msgspec.structs.replace(found, wrapped_key=None))
    return key, found


async def license_of_key(call: Call, key_digest: bytes) -> KeyedLicense | None:
    """Return the licence that a key names, its subject's data key in memory."""
    services = call.services
    known = services.license_keys.remembered(key_digest)
    if known is not None and services.vault.knows(known.subject_id):
        return known
    found = await services.licenses_by_key.read(key_digest)
    if found is None:
        return None
    keyed, wrapped_key = found
    services.vault.take(keyed.subject_id, wrapped_key)
    return keyed


async def read_afresh(call: Call, license_id: UUID, hardware_id: str) -> Standing | None:
    """Return the standing as the database has it now."""
    found = await call.services.standings_by_id.read((license_id.bytes, device_digest(hardware_id)))
    _remember_subject(call.services.vault, found)
    return found


def _remember_subject(vault: Vault, found: Standing | None) -> None:
    if found is not None:
        vault.take(found.subject_id, found.wrapped_key)


async def noted(call: Call, key: Key, standing: Standing | None, line: bytes) -> bool:
    """Store the usage row and learn whether what it rests on still holds.

    False: something changed, the row was not stored, and the request must decide again; its credential has been
    checked again by then. Where the database is away, what was read at most five minutes ago is taken to hold.
    """
    services = call.services
    api_key = call.credential.api_key
    checks: Checks = () if standing is None else ((standing.license_id, standing.position),)
    if api_key is not None:
        checks += ((api_key.key_id, api_key.position),)
    future, index = services.usage.append(checks, line)
    stale = await future
    if stale is None:
        if await still_holds(services, checks):
            services.usage.settle(future, index)
            return True
    elif index not in stale:
        return True
    services.standings.drop(key)
    if api_key is not None:
        services.api_keys.forget(call.request.headers["X-API-Key"])
    call.credential = await identify(call.request, call.endpoint, services, call.now)
    return False


def count_miss(call: Call) -> LicenseNotFound:
    """Count a licence key that nobody has against its address. Raises RateLimitExceeded after 20 in ten minutes."""
    services = call.services
    now = services.clock.monotonic()
    services.misses.record(call.origin.limit_key, now)
    return LicenseNotFound()


def known_line(  # noqa: PLR0913 - what a row says
    call: Call,
    standing: Standing | KeyedLicense,
    type: UsageType,
    operation: Operation,
    hardware_id: str,
    *,
    reason: str | None = None,
    app_version: str | None = None,
    client_time: Any = None,
    session_sealed: bytes | None = None,
    os_info_sealed: bytes | None = None,
) -> bytes:
    """Encode the usage row of a request about a licence that exists. An active device's operating system is known."""
    origin = call.origin
    api_key = call.credential.api_key
    if isinstance(standing, Standing):
        os_info_sealed = standing.os_info_sealed
    return usage_line(
        occurred_at=call.now,
        type=type,
        operation=operation,
        license_id=standing.license_id,
        subject_id=standing.subject_id,
        hardware_id=hardware_id,
        api_key_id=api_key.key_id if api_key else None,
        reason=reason,
        app_version=app_version,
        client_time=client_time,
        country=origin.country,
        network=origin.network_hash,
        details_sealed=call.services.usage_details.seal(standing.subject_id, call.address, origin.place, os_info_sealed)
        if call.services.vault.knows(standing.subject_id)
        else None,
        session_sealed=session_sealed,
    )


async def unknown_line(call: Call, key_digest: bytes, operation: Operation, hardware_id: str) -> bytes:
    """Encode the usage row of a request about a key that nobody has; its address is sealed under the day's key.

    The key's digest is hashed once more with a key of ours: what somebody mistyped may be short, or a secret of theirs.
    """
    services = call.services
    day: date = call.now.date()
    async with services.pool.connection() as connection:
        subject_id = await services.subjects.of_day(connection, day)
    origin = call.origin
    api_key = call.credential.api_key
    return usage_line(
        occurred_at=call.now,
        type="license.validation.failed",
        operation=operation,
        key_digest=services.vault.lookup_hash("key", key_digest.hex()),
        subject_id=subject_id,
        hardware_id=hardware_id,
        api_key_id=api_key.key_id if api_key else None,
        reason=LicenseNotFound.code,
        country=origin.country,
        network=origin.network_hash,
        details_sealed=services.usage_details.seal(subject_id, call.address, origin.place)
        if services.vault.knows(subject_id)
        else None,
    )
