"""Reading a licence's past for an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from api.call import Call
from api.past_answers import Opener, opener_of
from api.schemas.common import invalid
from domain.errors import LicenseNotFound
from domain.history.past import LicenseThen, Moment, advance
from projections import history

NO_LICENSE = "License not found"


async def license_at(call: Call, license_id: UUID, moment: Moment, field: str) -> tuple[LicenseThen, Opener]:
    """Return a licence as it was at a moment, and what opens its personal data.

    Raises LicenseNotFound where there was none then, and Invalid where the moment lies ahead.
    """
    async with past(call) as connection:
        await check_reached(call, connection, moment, field)
        then = await fold(call, connection, license_id, moment)
        if then is None:
            raise LicenseNotFound(NO_LICENSE)
        return then, await opener_for(call, connection, then)


@asynccontextmanager
async def past(call: Call) -> AsyncIterator[Any]:
    """Give a connection to read histories by. Few do so at once, since a long one takes seconds."""
    async with call.services.analyses, call.services.pool.connection() as connection:
        yield connection


async def opener_for(call: Call, connection: Any, then: LicenseThen) -> Opener:
    """Return what opens a licence's personal data."""
    return await opener_of(call.services.vault, call.services.subjects, connection, then.subject_id)


async def fold(call: Call, connection: Any, license_id: UUID, moment: Moment | None) -> LicenseThen | None:
    """Return a licence as it was at a moment, or as it is now; None where there was none."""
    then: LicenseThen | None = None
    entries: AsyncIterator[Any] = history.story(connection, license_id, call.services.decode_event, moment)
    async for entry in entries:
        then = advance(then, entry)
    return then


async def check_reached(call: Call, connection: Any, moment: Moment, field: str) -> None:
    """Raise Invalid where a moment lies ahead: what was true then can still change."""
    if moment.time is not None and moment.time > call.now:
        raise invalid(field, "must not lie in the future")
    if moment.position is not None and moment.position > (end := await history.end(connection)):
        raise invalid(field, f"must not be beyond the log's end, {end}")
