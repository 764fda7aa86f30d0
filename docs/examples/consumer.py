"""An example: store what happens to licences in a table of your own, each message once.

It rests on ../asyncapi.yaml alone and needs only `pip install pika`. Run it, then stop it with Ctrl-C:

    python consumer.py --url amqp://guest:guest@localhost:5672/ --queue bi.licences 'license.#' 'device.*'
"""

import argparse
import json
import signal
import sqlite3
import sys
import threading
from contextlib import closing

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPConnectionError, ChannelClosedByBroker

EXCHANGE = "licenses.events"
PREFETCH = 100
PAUSE_SECONDS = 5.0

TABLE = """
    CREATE TABLE IF NOT EXISTS events (
        id TEXT PRIMARY KEY, source TEXT NOT NULL, sequence TEXT NOT NULL, type TEXT NOT NULL,
        subject TEXT, time TEXT NOT NULL, data TEXT NOT NULL)
"""
INSERT = """
    INSERT INTO events VALUES (:id, :source, :sequence, :type, :subject, :time, :data) ON CONFLICT (id) DO NOTHING
"""


def store(database: sqlite3.Connection, body: bytes) -> dict | None:
    """Store a message and return it; None where it had come before. Raises ValueError where it can't be read.

    The table holds what follows from the messages and also which have come, so that one commit does both.
    """
    event = json.loads(body)
    if not isinstance(event, dict) or event.get("specversion") != "1.0":
        raise ValueError("this is no CloudEvent")
    row = {"subject": None, **event, "data": json.dumps(event.get("data"))}
    try:
        with database:
            is_new = database.execute(INSERT, row).rowcount == 1
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError) as wrong:  # a field is missing
        raise ValueError(str(wrong)) from wrong
    return event if is_new else None


def bind(channel: BlockingChannel, queue: str, patterns: list[str]) -> None:
    """Declare the queue and bind it. The exchange is the service's: it is not declared here."""
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
    for pattern in patterns:
        channel.queue_bind(queue, EXCHANGE, routing_key=pattern)


def consume(channel: BlockingChannel, queue: str, database: sqlite3.Connection, stopping: threading.Event) -> None:
    """Work messages off until asked to stop. A message is acknowledged once it is stored."""
    channel.basic_qos(prefetch_count=PREFETCH)
    for method, _, body in channel.consume(queue, inactivity_timeout=0.5):
        if stopping.is_set():
            break  # what was delivered but not acknowledged goes back to the queue
        if method is None:
            continue  # nothing has come for half a second
        try:
            event = store(database, body)
        except ValueError as wrong:
            print(f"rejected: {wrong}", file=sys.stderr, flush=True)
            channel.basic_nack(method.delivery_tag, requeue=False)
            continue
        if event is not None:
            print(event["sequence"], event["type"], event.get("subject", "-"), json.dumps(event["data"]), flush=True)
        channel.basic_ack(method.delivery_tag)
    channel.cancel()


def main() -> None:
    """Connect, again and again where the broker is away, until SIGINT or SIGTERM."""
    options = argparse.ArgumentParser(description="Store what happens to licences, each message once.")
    options.add_argument("--url", default="amqp://guest:guest@localhost:5672/")
    options.add_argument("--queue", default="example.licences", help="a name of your own; made where it is missing")
    options.add_argument("--database", default="events.sqlite3", help="file of the table")
    options.add_argument("patterns", nargs="*", default=["#"], help="of the routing key; default: all")
    given = options.parse_args()

    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())

    with closing(sqlite3.connect(given.database)) as database:
        database.execute("PRAGMA journal_mode=WAL")  # one write to the disk a commit, not three
        database.execute(TABLE)
        while not stopping.is_set():
            try:
                with pika.BlockingConnection(pika.URLParameters(given.url)) as connection:
                    channel = connection.channel()
                    bind(channel, given.queue, given.patterns)
                    print(f"reading {given.queue}; Ctrl-C stops", file=sys.stderr, flush=True)
                    consume(channel, given.queue, database, stopping)
            except ChannelClosedByBroker as refused:  # no such exchange, no right, another queue of that name
                sys.exit(f"the broker refused: {refused.reply_text}")
            except AMQPConnectionError as error:
                print(f"no connection ({error!r}), again in {PAUSE_SECONDS:.0f} s", file=sys.stderr, flush=True)
                stopping.wait(PAUSE_SECONDS)


if __name__ == "__main__":
    main()
