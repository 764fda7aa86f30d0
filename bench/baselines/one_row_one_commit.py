"""Inserts through one connection, one commit each.

`python -m bench.baselines.one_row_one_commit CONNINFO SECONDS BYTES`. The table is that of our event log, its `state`
as large as given. Prints the rows a second.
"""

from __future__ import annotations

import os
import sys
import time
from uuid import uuid4

import psycopg

TABLE = """
    CREATE TABLE IF NOT EXISTS rows (
        originator_id uuid NOT NULL,
        originator_version bigint NOT NULL,
        topic text NOT NULL,
        state bytea NOT NULL,
        notification_id bigserial NOT NULL UNIQUE,
        PRIMARY KEY (originator_id, originator_version)
    )
"""
INSERT = "INSERT INTO rows (originator_id, originator_version, topic, state) VALUES (%s, %s, %s, %s)"


def measure(conninfo: str, seconds: float, size: int) -> float:
    """Return how many rows a second are stored."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(TABLE)
        rows = 0
        began = time.monotonic()
        while (took := time.monotonic() - began) < seconds:
            connection.execute(INSERT, (uuid4(), 1, "license.activated", os.urandom(size)), binary=True)
            rows += 1
    return rows / took


if __name__ == "__main__":
    print(measure(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
