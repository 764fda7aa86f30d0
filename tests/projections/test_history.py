"""Reading a licence's events from the log: page after page, up to a moment, in the log's order."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from commands.event_mapper import decoder
from domain.facts import ApiKeyCreated, Fact, LicenseUpdated
from domain.history.past import Moment
from infra.postgres import Database
from projections import history
from tests.support.event_log import append
from tests.support.given import NOW, issued, recorded

HOUR = timedelta(hours=1)


async def versions(database: Database, license_id: UUID, moment: Moment | None = None) -> list[int]:
    async with await connected(database) as connection:
        entries = history.story(connection, license_id, decoder(), moment)
        return [entry.event.originator_version async for entry in entries]


async def connected(database: Database) -> AsyncConnection[Any]:
    return await AsyncConnection.connect(database.conninfo(), autocommit=True, row_factory=dict_row)


def happened(database: Database, times: list[datetime], *, to: UUID | None = None) -> UUID:
    """Have a licence issued and changed at these times, in this order."""
    license_id = to or uuid4()
    facts: list[Fact] = [issued(), *(LicenseUpdated(max_devices=number) for number in range(2, len(times) + 1))]
    append(
        database,
        (
            recorded(license_id, version, fact, occurred_at=at)
            for version, (fact, at) in enumerate(zip(facts, times, strict=True), 1)
        ),
    )
    return license_id


async def test_a_long_history_is_read_as_a_whole(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PAGE", 4)
    for count in (1, 3, 4, 5, 8, 9):
        happened(database, [NOW])
        license_id = happened(database, [NOW + number * HOUR for number in range(count)])
        assert await versions(database, license_id) == list(range(1, count + 1))
        assert await versions(database, license_id, Moment(time=NOW + 2 * HOUR)) == list(range(1, min(count, 3) + 1))


async def test_a_time_ends_before_the_first_later_event_whatever_follows(database: Database) -> None:
    """Clocks of two processes differ a little: what came after in the log is not let in before what was first."""
    license_id = happened(database, [NOW, NOW + 3 * HOUR, NOW + HOUR, NOW + 4 * HOUR])
    expected = {-1: [], 0: [1], 1: [1], 2: [1], 3: [1, 2, 3], 4: [1, 2, 3, 4]}
    found = {hours: await versions(database, license_id, Moment(time=NOW + hours * HOUR)) for hours in expected}
    assert found == expected


async def test_a_position_is_of_the_whole_log(database: Database) -> None:
    first, second = happened(database, [NOW] * 3), happened(database, [NOW] * 2)
    found = [len(await versions(database, first, Moment(position=position))) for position in range(7)]
    assert found == [0, 1, 2, 3, 3, 3, 3]
    found = [len(await versions(database, second, Moment(position=position))) for position in range(7)]
    assert found == [0, 0, 0, 0, 1, 2, 2]


async def test_only_licences_have_one(database: Database) -> None:
    key_id = uuid4()
    fact = ApiKeyCreated(
        key_digest=b"", client_name="a", allowed_endpoints=(), requests_per_minute=None, requests_per_hour=None
    )
    append(database, [recorded(key_id, 1, fact)])
    assert await versions(database, key_id) == await versions(database, uuid4()) == []
    async with await connected(database) as connection:
        assert not await history.is_license(connection, key_id)
        assert await history.is_license(connection, happened(database, [NOW]))


async def test_an_event_is_found_by_its_id_and_not_by_who_names_it(database: Database) -> None:
    license_id = uuid4()
    first = recorded(license_id, 1, issued())
    named = UUID(int=77)
    second = recorded(license_id, 2, LicenseUpdated(product=str(named)))
    append(database, [first, second])
    async with await connected(database) as connection:
        found = await history.event_of(connection, license_id, second.event_id, decoder())
        assert found == (2, second)
        assert await history.event_of(connection, license_id, named, decoder()) is None
        assert await history.event_of(connection, uuid4(), second.event_id, decoder()) is None
