"""Several statements in one trip: what is sent at once, what a failure leaves behind, and that no amount stops it."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest
from psycopg import errors
from psycopg.pq import TransactionStatus

from commands.one_trip import Statement, Trip
from infra.postgres import Database


def test_statements_that_the_server_has_forgotten_are_prepared_anew(database: Database) -> None:
    prepared: dict[Statement, bytes] = {}

    with database.connect() as connection:

        def doubled(number: int) -> int:
            with Trip(connection, prepared) as trip:
                answer = trip.execute("SELECT 2 * %b::int8", (number,))
            ((found,),) = answer.rows()
            return int(found)

        assert [doubled(1), doubled(2)] == [2, 4]
        connection.execute("DEALLOCATE ALL")
        with pytest.raises(errors.InvalidSqlStatementName):
            doubled(3)
        assert doubled(3) == 6


def test_what_came_after_a_failure_is_prepared_when_it_is_needed(database: Database) -> None:
    prepared: dict[Statement, bytes] = {}
    with database.connect() as connection:
        trip = Trip(connection, prepared)
        trip.execute("BEGIN")
        trip.execute("SELECT 1 / %b::int8", (0,))
        trip.execute("SELECT 3 * %b::int8", (2,))
        with pytest.raises(errors.DivisionByZero):
            trip.send()
        assert connection.info.transaction_status is TransactionStatus.INERROR
        with Trip(connection, prepared) as trip:
            trip.execute("ROLLBACK")
            answer = trip.execute("SELECT 3 * %b::int8", (2,))
        assert answer.rows() == [(6,)]


def test_an_error_in_the_block_sends_nothing(database: Database) -> None:
    with database.connect() as connection:
        with suppress(KeyError), Trip(connection, {}) as trip:
            trip.execute("CREATE TEMPORARY TABLE sent (a int)")
            raise KeyError
        row = connection.execute("SELECT to_regclass('sent') AS there").fetchone()
    assert row == {"there": None}


def test_more_than_the_sockets_hold_in_both_directions(database: Database) -> None:
    """A server that can't get rid of its answers reads nothing more: who only writes then waits for ever."""
    text, answers = "x" * 100_000, []

    with database.connect() as connection:

        def send() -> None:
            with Trip(connection, {}) as trip:
                answers.extend([trip.execute("SELECT repeat(%s::text, 10)", (text,)) for _ in range(20)])

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        thread.join(20)
        hangs = thread.is_alive()
        if hangs:
            connection.pgconn.finish()
    assert not hangs
    assert {answer.rows()[0][0] for answer in answers} == {text * 10}
