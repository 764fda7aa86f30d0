"""What bounds each connection of the service: no query, and no silence, is waited for without end."""

from __future__ import annotations

import os
import socket

import psycopg

from infra.postgres import Database
from tests.support.postgres_proxy import PostgresProxy


def test_the_server_ends_a_query_after_half_a_minute(database: Database) -> None:
    for connection in (database.connect(), database.connect_worker("test")):
        with connection:
            assert connection.execute("SHOW statement_timeout").fetchall() == [{"statement_timeout": "30s"}]


def test_the_owner_may_take_longer_to_migrate_or_rebuild(database: Database) -> None:
    with database.connect_owner() as owner:
        assert owner.execute("SHOW statement_timeout").fetchall() == [{"statement_timeout": "0"}]


def test_the_kernel_gives_a_silent_connection_up(database: Database) -> None:
    with PostgresProxy(database) as proxy:
        for connection in (proxy.database.connect(), proxy.database.connect_owner()):
            with connection:
                assert _options(connection) == (20_000, 1, 10, 5, 3)


def _options(connection: psycopg.Connection[object]) -> tuple[int, ...]:
    with socket.socket(fileno=os.dup(connection.fileno())) as ours:
        return (
            ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
            ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
            ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
            ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
        )
