"""What detection remembers, as it is stored: states of licences and addresses, and how far the logs were merged.

All of it is of one moment: that of the consumer's positions. Whoever writes it moves those in the same transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from msgspec import DecodeError
from psycopg import Connection

from domain.anomalies.state import dumps, loads_license, terms_of

CONSUMER = "anomaly"
"""Its name among the consumers of the logs."""

_BEGIN = "INSERT INTO consumers VALUES (%s, 0, 0) ON CONFLICT DO NOTHING"
_READ = """
    SELECT c.event_position, c.usage_position, coalesce(d.events_at, 0) AS events_at,
        coalesce(d.usage_at, 0) AS usage_at
    FROM consumers c LEFT JOIN detection_clock d ON true WHERE c.consumer = %s
"""
_MOVE = """
    UPDATE consumers SET event_position = %s, usage_position = %s, moved_at = clock_timestamp()
    WHERE consumer = %s AND event_position = %s AND usage_position = %s
"""
_SET_CLOCK = """
    INSERT INTO detection_clock (events_at, usage_at) VALUES (%s, %s)
    ON CONFLICT (only_row) DO UPDATE SET events_at = excluded.events_at, usage_at = excluded.usage_at
"""
_LICENSES = "SELECT license_id, state FROM license_behaviour WHERE license_id = ANY(%s)"
_KEEP_LICENSES = """
    INSERT INTO license_behaviour (license_id, state) SELECT * FROM unnest(%b::uuid[], %b::bytea[])
    ON CONFLICT (license_id) DO UPDATE SET state = excluded.state
"""
_TAKE_LICENSES = f"{_LICENSES} ORDER BY license_id FOR UPDATE"
_CHANGE_LICENSES = """
    UPDATE license_behaviour SET state = new.state FROM unnest(%b::uuid[], %b::bytea[]) AS new (license_id, state)
    WHERE license_behaviour.license_id = new.license_id
"""
_DROP_LICENSES = "DELETE FROM license_behaviour WHERE license_id = ANY(%s)"
_ADDRESSES = "SELECT address_hash, state FROM address_behaviour"
_KEEP_ADDRESSES = """
    INSERT INTO address_behaviour (address_hash, last_seen_at, state)
    SELECT hash, to_timestamp(seen), state
    FROM unnest(%b::bytea[], %b::float8[], %b::bytea[]) AS new (hash, seen, state)
    ON CONFLICT (address_hash) DO UPDATE SET last_seen_at = excluded.last_seen_at, state = excluded.state
"""
_AT_ONCE = 200
"""States that begin anew together: at most 4 KB each."""
_DROP_ADDRESSES = "DELETE FROM address_behaviour WHERE address_hash = ANY(%s)"


@dataclass(frozen=True, slots=True)
class Reached:
    """How far both logs are merged: positions, and the latest time in each up to there, in seconds since 1970."""

    events: int
    usage: int
    events_at: float
    usage_at: float


class MovedByAnother(Exception):
    """Another process has gone on from the position that this one was at."""


def reached(connection: Connection[Any]) -> Reached:
    """Return how far detection has come."""
    row = connection.execute(_READ, (CONSUMER,)).fetchone()
    if row is None:
        connection.execute(_BEGIN, (CONSUMER,))
        row = connection.execute(_READ, (CONSUMER,)).fetchone()
    assert row is not None
    return _reached(row)


async def reached_async(connection: Any) -> Reached:
    """Return how far detection has come, by an asynchronous connection; it writes nothing."""
    row = await (await connection.execute(_READ, (CONSUMER,))).fetchone()
    return Reached(0, 0, 0.0, 0.0) if row is None else _reached(row)


def _reached(row: dict[str, Any]) -> Reached:
    return Reached(row["event_position"], row["usage_position"], row["events_at"], row["usage_at"])


def move(connection: Connection[Any], old: Reached, new: Reached) -> None:
    """Move the positions. Raises MovedByAnother: the transaction must be undone then."""
    moved = connection.execute(_MOVE, (new.events, new.usage, CONSUMER, old.events, old.usage))
    if moved.rowcount != 1:
        msg = f"detection was at {old.events}, {old.usage} no longer"
        raise MovedByAnother(msg)
    connection.execute(_SET_CLOCK, (new.events_at, new.usage_at))


def licenses(connection: Connection[Any], ids: Collection[str]) -> list[tuple[str, bytes]]:
    """Return the states of licences, each with its id; one that was never seen is not among them."""
    rows = connection.execute(_LICENSES, (list(ids),)).fetchall()
    return [(str(row["license_id"]), bytes(row["state"])) for row in rows]


async def license(connection: Any, license_id: UUID) -> bytes | None:
    """Return one licence's state, by an asynchronous connection."""
    row = await (await connection.execute(_LICENSES, ([license_id],))).fetchone()
    return None if row is None else bytes(row["state"])


def keep_licenses(connection: Connection[Any], states: Iterable[tuple[str, bytes]]) -> None:
    """Store states of licences."""
    # In one order, so that two processes can't wait for each other.
    rows = sorted(states)
    if rows:
        connection.execute(_KEEP_LICENSES, ([UUID(license_id) for license_id, _ in rows], [state for _, state in rows]))


async def begin_anew(connection: Any, ids: Collection[UUID]) -> None:
    """Forget who used licences, when and where; what they allow is kept. A state that is damaged goes as a whole.

    The worker comes to the erasure in its turn. Rows are taken in the order in which it takes them, so that neither
    waits for the other crosswise, and few at once: it waits meanwhile, and so does whoever else this process serves.
    """
    in_order = sorted(ids)
    for start in range(0, len(in_order), _AT_ONCE):
        async with connection.transaction():
            cursor = await connection.execute(_TAKE_LICENSES, (in_order[start : start + _AT_ONCE],))
            terms = {row["license_id"]: _terms(bytes(row["state"])) for row in await cursor.fetchall()}
            kept = {license_id: state for license_id, state in terms.items() if state is not None}
            await connection.execute(_CHANGE_LICENSES, (list(kept), list(kept.values())))
            await connection.execute(_DROP_LICENSES, ([license_id for license_id in terms if license_id not in kept],))


def _terms(stored: bytes) -> bytes | None:
    try:
        return dumps(terms_of(loads_license(stored)))
    except (DecodeError, UnicodeDecodeError):
        return None


def addresses(connection: Connection[Any]) -> list[tuple[str, bytes]]:
    """Return the states of all addresses, each with the address's hash in hex."""
    return [
        (bytes(row["address_hash"]).hex(), bytes(row["state"])) for row in connection.execute(_ADDRESSES).fetchall()
    ]


def keep_addresses(connection: Connection[Any], states: Iterable[tuple[str, float, bytes]]) -> None:
    """Store states of addresses: hash in hex, when it was last seen, state."""
    rows = sorted(states)
    if rows:
        columns = ([bytes.fromhex(row[0]) for row in rows], [row[1] for row in rows], [row[2] for row in rows])
        connection.execute(_KEEP_ADDRESSES, columns)


def drop_addresses(connection: Connection[Any], hashes: Collection[str]) -> None:
    """Forget addresses, given by their hashes in hex."""
    if hashes:
        connection.execute(_DROP_ADDRESSES, ([bytes.fromhex(hash) for hash in hashes],))
