"""How far behind a consumer is can be told whatever the event is that it stands before."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from psycopg import AsyncConnection

from infra.postgres import Database
from projections import lag
from projections.as_of import of_views
from projections.registry import CONSUMERS_OF
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


@pytest.mark.parametrize("consumer", ["relay", "anomaly", "notary", "seats"])
async def test_a_consumer_that_stands_still_for_a_week_is_told_of_while_its_worker_works(
    database: Database, consumer: str
) -> None:
    with database.connect() as owner:
        owner.execute(
            "INSERT INTO consumers (consumer, moved_at) VALUES (%s, clock_timestamp() - interval '7 days 1 minute')",
            (consumer,),
        )
        lease = "INSERT INTO leases VALUES (%s, gen_random_uuid(), 'there:1', now() + interval '1 minute')"
        async with await database.connect_async_worker("test") as connection:
            for worker in ("relay", "projector", "anomaly", "notary"):
                owner.execute("DELETE FROM leases")
                owner.execute(lease, (worker,))
                found = await lag.read(connection)
                assert (found.of(consumer) is not None) == (consumer in CONSUMERS_OF[worker])
                assert found.is_alive(worker)
            owner.execute("DELETE FROM leases")
            assert (await lag.read(connection)).of(consumer) is None
            owner.execute("UPDATE consumers SET moved_at = clock_timestamp() - interval '6 days 23:59'")
            assert (await lag.read(connection)).of(consumer) is not None


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
