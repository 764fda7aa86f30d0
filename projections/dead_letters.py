"""Events that a consumer could not apply: set aside, listed, and applied later."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from psycopg import Connection

from projections.projection import Log

MOST_SET_ASIDE = 1000
"""With so many, it is the consumer that is broken, not the events: it stops and waits for a person."""

_LONGEST_ERROR = 500

_SET_ASIDE = """
    INSERT INTO dead_letters (consumer, log, position, error) VALUES (%s, %s, %s, %s)
    ON CONFLICT (consumer, log, position) DO UPDATE
        SET error = excluded.error, failed_at = clock_timestamp()
"""

_LIST = """
    SELECT consumer, log, position, error, failed_at FROM dead_letters
    WHERE (%(consumer)s::text IS NULL OR consumer = %(consumer)s) ORDER BY consumer, log, position
"""


class TooManyDeadLetters(Exception):
    """A consumer has set so much aside that it is itself at fault. The message names it."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was set aside: whose consumer, which log, where in it, and why, in one line."""

    consumer: str
    log: Log
    position: int
    error: str
    failed_at: datetime


def set_aside(connection: Connection[Any], consumer: str, log: Log, position: int, error: str) -> None:
    """Note an event that could not be applied. Raises TooManyDeadLetters."""
    if count(connection, consumer) >= MOST_SET_ASIDE:
        msg = f"{consumer} has {MOST_SET_ASIDE} dead letters: it stops here, at {log} position {position}: {error}"
        raise TooManyDeadLetters(msg)
    connection.execute(_SET_ASIDE, (consumer, log, position, error[:_LONGEST_ERROR]))


def listed(connection: Connection[Any], consumer: str | None = None) -> list[DeadLetter]:
    """Return what is set aside, of one consumer or of all, oldest first."""
    return [DeadLetter(**row) for row in connection.execute(_LIST, {"consumer": consumer}).fetchall()]


def positions(connection: Connection[Any], consumer: str, log: Log) -> list[int]:
    """Return the positions that a consumer goes without, in order."""
    return [letter.position for letter in listed(connection, consumer) if letter.log == log]


def remove(connection: Connection[Any], consumer: str, log: Log, position: int) -> bool:
    """Forget a dead letter; tell whether there was one."""
    deleted = connection.execute(
        "DELETE FROM dead_letters WHERE consumer = %s AND log = %s AND position = %s", (consumer, log, position)
    )
    return deleted.rowcount == 1


def count(connection: Connection[Any], consumer: str) -> int:
    """Return how many events a consumer goes without."""
    row = connection.execute("SELECT count(*) AS count FROM dead_letters WHERE consumer = %s", (consumer,)).fetchone()
    assert row is not None
    found: int = row["count"]
    return found
