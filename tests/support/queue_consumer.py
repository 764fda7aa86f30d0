"""A program of an analyst's that applies each message once: `python -m tests.support.queue_consumer URL QUEUE FILE`.

It goes by docs/asyncapi.yaml: it keeps the ids of what it has worked off in the same transaction as what follows from
them (here: how many came of each type), and skips what comes again. It connects again and again until SIGTERM.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError

PREFETCH = 400
TOGETHER = 100
"""So many messages are applied in a transaction."""
PAUSE_SECONDS = 0.3

TABLES = """
    CREATE TABLE IF NOT EXISTS applied (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, source TEXT NOT NULL, sequence TEXT NOT NULL,
        type TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS tallies (type TEXT PRIMARY KEY, applied INTEGER NOT NULL, repeats INTEGER NOT NULL);
"""
_KEEP = "INSERT INTO applied (id, source, sequence, type) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
_COUNT = """
    INSERT INTO tallies VALUES (?, ?, ?)
    ON CONFLICT (type) DO UPDATE SET applied = applied + excluded.applied, repeats = repeats + excluded.repeats
"""


def opened(path: Path) -> sqlite3.Connection:
    """Open the consumer's database; its transactions outlive a kill."""
    database = sqlite3.connect(path, isolation_level=None, timeout=30)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=OFF")  # the machine is not killed, only the process
    database.executescript(TABLES)
    return database


def count_of(path: Path) -> int:
    """Return how many messages a consumer has applied."""
    with closing(sqlite3.connect(path, timeout=30)) as database:
        number: int = database.execute("SELECT coalesce(max(number), 0) FROM applied").fetchone()[0]
        return number


def apply(database: sqlite3.Connection, bodies: list[bytes]) -> None:
    """Apply messages in one transaction; those that have come before only count as repeats."""
    database.execute("BEGIN IMMEDIATE")
    for body in bodies:
        event = json.loads(body)
        is_new = database.execute(_KEEP, (event["id"], event["source"], event["sequence"], event["type"])).rowcount == 1
        database.execute(_COUNT, (event["type"], int(is_new), int(not is_new)))
    database.execute("COMMIT")


def consume(channel: BlockingChannel, queue: str, database: sqlite3.Connection, stopping: threading.Event) -> None:
    """Apply what comes, and acknowledge it once it is stored."""
    channel.basic_qos(prefetch_count=PREFETCH)
    bodies: list[bytes] = []
    last = 0
    for method, _, body in channel.consume(queue, inactivity_timeout=0.05):
        if method is not None and body is not None:
            bodies.append(body)
            last = method.delivery_tag or 0
        if bodies and (method is None or len(bodies) >= TOGETHER):
            apply(database, bodies)
            channel.basic_ack(last, multiple=True)
            bodies = []
        if stopping.is_set():
            return


def main() -> None:
    """Consume until SIGTERM."""
    url, queue, path = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    with closing(opened(path)) as database:
        while not stopping.is_set():
            # A queue whose leader is not elected yet closes the channel; a broker that starts, the connection.
            with suppress(AMQPError, OSError, StopIteration):
                parameters = pika.URLParameters(url)
                parameters.heartbeat = 4
                parameters.blocked_connection_timeout = 4
                parameters.socket_timeout = 4
                with pika.BlockingConnection(parameters) as connection:
                    consume(connection.channel(), queue, database, stopping)
            stopping.wait(PAUSE_SECONDS)


if __name__ == "__main__":
    main()
