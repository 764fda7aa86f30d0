"""Hands on the stored history: its owner changes an event, a node of the tree, or a checkpoint, at random."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any
from uuid import UUID

from psycopg import Connection

Change = Callable[[Connection[Any], Random], str]
"""Changes one thing that is covered; returns in words what."""

TABLES = ("licensing_events", "audit_tiles", "audit_checkpoints")


class History:
    """The stored history as it was, to which it can be put back. The connection is the owner's."""

    def __init__(self, connection: Connection[Any]) -> None:
        self.connection = connection
        connection.execute("SET search_path TO lizenzserver")
        for table in TABLES:
            connection.execute(f"CREATE TEMP TABLE saved_{table} AS SELECT * FROM {table}")

    def restore(self) -> None:
        with self.connection.transaction():
            for table in TABLES:
                self.connection.execute(f"DELETE FROM {table}")
                self.connection.execute(f"INSERT INTO {table} SELECT * FROM saved_{table}")


def _all(connection: Connection[Any], query: str, *parameters: Any) -> list[dict[str, Any]]:
    return connection.execute(query, parameters).fetchall()


def _events(connection: Connection[Any]) -> list[int]:
    return [
        row["notification_id"] for row in _all(connection, "SELECT notification_id FROM licensing_events ORDER BY 1")
    ]


def _flipped(data: bytes, random: Random) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << random.randrange(8))]) + data[at + 1 :]


def flip_event(connection: Connection[Any], random: Random) -> str:
    """Flip a bit in one of the columns."""
    position = random.choice(_events(connection))
    (row,) = _all(connection, "SELECT * FROM licensing_events WHERE notification_id = %s", position)
    column = random.choice(["originator_id", "originator_version", "topic", "state", "state", "notification_id"])
    value: Any = row[column]
    if column == "state":
        value = _flipped(value, random)
    elif column == "topic":
        value = value[:-1] + chr(ord(value[-1]) ^ 1)
    elif column == "originator_id":
        value = UUID(bytes=_flipped(value.bytes, random))
    elif column == "originator_version":
        value += 1000 << random.randrange(20)
    else:
        taken = set(_events(connection))
        value = next(other for bit in range(20, -1, -1) if (other := value ^ (1 << bit)) not in taken)
    connection.execute(f"UPDATE licensing_events SET {column} = %s WHERE notification_id = %s", (value, position))
    return f"{column} of event {position}"


def delete_event(connection: Connection[Any], random: Random) -> str:
    position = random.choice(_events(connection))
    connection.execute("DELETE FROM licensing_events WHERE notification_id = %s", (position,))
    return f"event {position} deleted"


def swap_events(connection: Connection[Any], random: Random) -> str:
    """Let two events change places, or neighbours."""
    events = _events(connection)
    at = random.randrange(len(events) - 1)
    one, other = (events[at], events[at + 1]) if random.random() < 0.5 else random.sample(events, 2)
    connection.execute("UPDATE licensing_events SET notification_id = -1 WHERE notification_id = %s", (one,))
    connection.execute("UPDATE licensing_events SET notification_id = %s WHERE notification_id = %s", (one, other))
    connection.execute("UPDATE licensing_events SET notification_id = %s WHERE notification_id = -1", (other,))
    return f"events {one} and {other} swapped"


def insert_event(connection: Connection[Any], random: Random) -> str:
    """Insert a copy of an event, in a gap between two, or before the first."""
    events = _events(connection)
    gaps = sorted(set(range(-3, events[-1])) - set(events))
    position, copied = random.choice(gaps), random.choice(events)
    connection.execute(
        "INSERT INTO licensing_events SELECT originator_id, originator_version + 100000, topic, state, %s"
        " FROM licensing_events WHERE notification_id = %s",
        (position, copied),
    )
    return f"a copy of event {copied} at {position}"


def truncate_events(connection: Connection[Any], random: Random) -> str:
    position = random.choice(_events(connection))
    connection.execute("DELETE FROM licensing_events WHERE notification_id >= %s", (position,))
    return f"events from {position} on deleted"


def _tile(connection: Connection[Any], random: Random) -> dict[str, Any]:
    return random.choice(_all(connection, "SELECT * FROM audit_tiles ORDER BY level, index"))


def flip_node(connection: Connection[Any], random: Random) -> str:
    tile = _tile(connection, random)
    columns = ["hashes", "hashes", "root", "first_position", "last_position", "level", "index", "event_marks"]
    column = random.choice([name for name in columns if tile[name] is not None])
    value: Any = tile[column]
    if column in {"hashes", "root"}:
        value = _flipped(value, random)
    elif column == "event_marks":
        value[random.randrange(len(value))] ^= 1 << random.randrange(31)
    else:
        value ^= 64 << random.randrange(8)
    connection.execute(
        f"UPDATE audit_tiles SET {column} = %s WHERE level = %s AND index = %s", (value, tile["level"], tile["index"])
    )
    return f"{column} of tile {tile['index']} of level {tile['level']}"


def delete_node(connection: Connection[Any], random: Random) -> str:
    tile = _tile(connection, random)
    connection.execute("DELETE FROM audit_tiles WHERE level = %s AND index = %s", (tile["level"], tile["index"]))
    return f"tile {tile['index']} deleted"


def swap_nodes(connection: Connection[Any], random: Random) -> str:
    """Swap two hashes in a tile."""
    tile = _tile(connection, random)
    one, other = random.sample(range(256), 2)
    hashes = [tile["hashes"][at * 32 : at * 32 + 32] for at in range(256)]
    hashes[one], hashes[other] = hashes[other], hashes[one]
    connection.execute(
        "UPDATE audit_tiles SET hashes = %s WHERE level = %s AND index = %s",
        (b"".join(hashes), tile["level"], tile["index"]),
    )
    return f"hashes {one} and {other} of tile {tile['index']} swapped"


def insert_node(connection: Connection[Any], random: Random) -> str:
    """Insert a tile where there is none."""
    tile = _tile(connection, random)
    level, index = random.choice([(0, 5000), (0, -1), (1, 0), (1, 7), (2, 0), (-1, 0)])
    connection.execute(
        "INSERT INTO audit_tiles SELECT %s, %s, first_position, last_position, root, hashes, event_marks"
        " FROM audit_tiles WHERE level = %s AND index = %s",
        (level, index, tile["level"], tile["index"]),
    )
    return f"a copy of tile {tile['index']} as {index} of level {level}"


def truncate_nodes(connection: Connection[Any], random: Random) -> str:
    tile = _tile(connection, random)
    connection.execute("DELETE FROM audit_tiles WHERE level >= %s AND index >= %s", (tile["level"], tile["index"]))
    return f"tiles from {tile['index']} on deleted"


def flip_checkpoint(connection: Connection[Any], random: Random) -> str:
    """Flip a bit in one of the columns."""
    (row,) = _all(connection, "SELECT * FROM audit_checkpoints ORDER BY size DESC LIMIT 1")
    column = random.choice(["size", "position", "root", "note", "note"])
    value: Any = row[column]
    if column == "root":
        value = _flipped(value, random)
    elif column == "note":
        places = [at for at, letter in enumerate(value) if letter.isascii() and letter.isprintable()]
        at = random.choice(places)
        value = value[:at] + chr(ord(value[at]) ^ 1) + value[at + 1 :]
    else:
        value ^= 1 << random.randrange(20)
    connection.execute(f"UPDATE audit_checkpoints SET {column} = %s WHERE size = %s", (value, row["size"]))
    return f"{column} of the checkpoint of {row['size']}"


CHANGES: tuple[Change, ...] = (
    flip_event,
    delete_event,
    swap_events,
    insert_event,
    truncate_events,
    flip_node,
    delete_node,
    swap_nodes,
    insert_node,
    truncate_nodes,
    flip_checkpoint,
)
