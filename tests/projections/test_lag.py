"""How far behind a consumer is can be told whatever the event is that it stands before."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from psycopg import AsyncConnection

from infra.postgres import Database
from projections import lag
from projections.as_of import of_views
from tests.support.event_log import append
from tests.support.given import issued, recorded


@pytest.mark.parametrize("state", ["\\xff00", "not JSON", '{"occurred_at": 7}', "[]"])
async def test_an_event_that_can_not_be_read(database: Database, state: str) -> None:
    append(database, [recorded(UUID(int=1), 1, issued())])
    with database.connect_owner() as owner:
        owner.execute("UPDATE lizenzserver.licensing_events SET state = %s::text::bytea", (state,))
        owner.execute(
            "INSERT INTO lizenzserver.consumers (consumer, moved_at)"
            " VALUES ('relay', clock_timestamp() - interval '2 hours')"
        )
    connection: AsyncConnection[dict[str, object]]
    async with await database.connect_async_worker("test") as connection:
        relay = (await lag.read(connection)).of("relay")
        assert relay is not None
        assert 7200 <= relay.lag_seconds < 7260
        assert (await of_views(connection, datetime.now(UTC), "seats")).position == 0


async def test_the_age_of_what_waits(database: Database) -> None:
    append(database, [recorded(UUID(int=1), 1, issued(), occurred_at=datetime(2020, 1, 1, tzinfo=UTC))])
    async with await database.connect_async_worker("test") as connection:
        await connection.execute("INSERT INTO consumers (consumer) VALUES ('relay')")
        relay = (await lag.read(connection)).of("relay")
        assert relay is not None
        age = datetime.now(UTC) - datetime(2020, 1, 1, tzinfo=UTC)
        assert abs(relay.lag_seconds - age.total_seconds()) < 60
        await connection.execute("UPDATE consumers SET event_position = 1")
        relay = (await lag.read(connection)).of("relay")
        assert relay is not None
        assert relay.lag_seconds == 0
