"""Reading a log from its beginning to its end and decoding each row, and nothing else.

`python -m bench.baselines.read_log CONNINFO (events|usage)`. Prints the seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Literal

from psycopg import Connection

from commands.event_mapper import decoder
from infra.postgres import Database
from projections.reading import reader

AT_ONCE = 5_000
USAGE_AT_ONCE = 20_000

_USAGE = "SELECT * FROM usage WHERE id > %s ORDER BY id LIMIT %s"

Log = Literal["events", "usage"]


def seconds(database: Database, log: Log) -> float:
    """Return how long it takes to read and decode a log. Rows of use are decoded by psycopg, as their columns say."""
    step = {"events": _events(), "usage": _usage}[log]
    began = time.monotonic()
    with database.connect() as connection:
        position: int | None = 0
        while position is not None:
            position = step(connection, position)
    return time.monotonic() - began


def _events() -> Callable[[Connection[Any], int], int | None]:
    read = reader(decoder())

    def step(connection: Connection[Any], after: int) -> int | None:
        events = read(connection, after, AT_ONCE)
        return events[-1][0] if events else None

    return step


def _usage(connection: Connection[Any], after: int) -> int | None:
    rows = connection.execute(_USAGE, (after, USAGE_AT_ONCE)).fetchall()
    return rows[-1]["id"] if rows else None


def main() -> None:
    """Print the seconds that a log takes."""
    conninfo, log = sys.argv[1:]
    names: dict[str, Log] = {"events": "events", "usage": "usage"}
    print(seconds(Database(conninfo, conninfo), names[log]))


if __name__ == "__main__":
    main()
