"""The usage log's connection when it is lost: nobody waits for it, and its socket's number is free for others."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import psycopg
import pytest

from commands.usage_connection import UsageConnection
from infra.postgres import Database
from tests.support.postgres_proxy import PostgresProxy

LOOK = "SELECT 1::bigint, gen_random_uuid()"
LONG = LOOK + " " * 16_000_000
"""More than fits into the sockets' buffers."""


@pytest.fixture
def proxy(database: Database) -> Iterator[PostgresProxy]:
    with PostgresProxy(database) as running:
        yield running


async def test_one_that_is_found_lost_in_writing_is_forgotten_by_the_loop(proxy: PostgresProxy) -> None:
    """The next connection is likely to get the socket's number: it would hear nothing."""
    opened = await proxy.database.connect_async()
    number = opened.pgconn.socket
    connection = UsageConnection(opened)
    assert len(await connection.look(LOOK)) == 1
    proxy.cut()
    # The loop must not see the end before it is written to.
    time.sleep(0.2)  # noqa: ASYNC251
    with pytest.raises(psycopg.OperationalError):
        await connection.look(LONG)
    assert not asyncio.get_running_loop().remove_reader(number)
    await connection.close()


async def test_who_waits_to_write_is_told_that_it_is_lost(proxy: PostgresProxy) -> None:
    opened = await proxy.database.connect_async()
    number, session = opened.pgconn.socket, opened.pgconn.backend_pid
    connection = UsageConnection(opened)
    os.kill(session, signal.SIGSTOP)
    try:
        looking = asyncio.create_task(connection.look(LONG))
        await asyncio.wait([looking], timeout=0.3)
        assert not looking.done()
        proxy.cut()
        await asyncio.wait([looking], timeout=30)
        assert looking.done()
        with pytest.raises(psycopg.OperationalError):
            await looking
    finally:
        os.kill(session, signal.SIGCONT)
    loop = asyncio.get_running_loop()
    assert not loop.remove_reader(number)
    assert not loop.remove_writer(number)
    await connection.close()
