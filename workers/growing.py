"""Writing the tree's tiles: the next events, 256 to a tile, and the tiles above them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from domain.audit.tiles import EVENT_ID_AT, EVENT_ID_LENGTH, WIDTH, Tile, TileId, leaf_tile, tile_above
from projections.audit_tree import LEAF_HASH, TreeGap, last_position_of

TILES_AT_ONCE = 4
"""Tiles of leaves in one query: 1,024 events, some 5 ms of the server's time. Making tiles of them takes 2 ms, in which
a process that serves as well answers nobody.
"""

# Only whole tiles come.
_NEXT = f"""
    SELECT min(position) AS first, max(position) AS last, string_agg(leaf, '' ORDER BY position) AS hashes,
        array_agg(event_id ORDER BY position) AS event_ids
    FROM (
        SELECT notification_id AS position, row_number() OVER (ORDER BY notification_id) - 1 AS place,
            {LEAF_HASH} AS leaf, substring(state FROM {EVENT_ID_AT + 1} FOR {EVENT_ID_LENGTH}) AS event_id
        FROM (
            SELECT * FROM licensing_events WHERE notification_id > %s ORDER BY notification_id LIMIT %s
        ) AS page
    ) AS leaves
    GROUP BY place / {WIDTH} HAVING count(*) = {WIDTH} ORDER BY place / {WIDTH}
"""  # noqa: S608 - constants
_INSERT = """
    INSERT INTO audit_tiles (level, index, first_position, last_position, root, hashes, event_marks)
    VALUES (%b, %b, %b, %b, %b, %b, %b) ON CONFLICT DO NOTHING
"""
_STORED = """
    SELECT level, index, first_position, last_position, root, hashes, event_marks FROM audit_tiles
    WHERE level = %s AND index = %s
"""
# Of the tiles below, their roots: the hashes in them would be two megabytes.
_BELOW = """
    SELECT count(*) AS tiles, min(first_position) AS first, max(last_position) AS last,
        string_agg(root, '' ORDER BY index) AS roots
    FROM audit_tiles WHERE level = %s AND index >= %s AND index < %s
"""
_HAS_TILES = "SELECT EXISTS (SELECT FROM audit_tiles WHERE level = 0) AS has_tiles"
_END = "SELECT coalesce(max(notification_id), 0) AS end FROM licensing_events"


class Inconsistent(Exception):
    """The log, its tree and what was signed do not fit together. The message is one line for people."""


@dataclass(frozen=True, slots=True)
class Grown:
    """Up to where tiles of leaves are there and right: how many, and the position of the last event in them."""

    tiles: int = 0
    position: int = 0

    @property
    def size(self) -> int:
        """How many events that are."""
        return self.tiles * WIDTH


def tile_of(row: dict[str, Any]) -> Tile:
    """Return a stored tile."""
    id = TileId(row["level"], row["index"])
    columns = (row["first_position"], row["last_position"], row["root"], row["hashes"], row["event_marks"])
    return Tile(id, *columns)


async def begin(connection: AsyncConnection[Any], signed: int) -> Grown:
    """Return where to go on after a checkpoint of so many events: what comes after it is looked at again.

    Where there are no tiles at all, all are made anew. Raises TreeGap.
    """
    row = await (await connection.execute(_HAS_TILES)).fetchone()
    assert row is not None
    tiles = signed // WIDTH if row["has_tiles"] else 0
    return Grown(tiles, await last_position_of(connection, tiles))


async def grow(connection: AsyncConnection[Any], grown: Grown, most: int = TILES_AT_ONCE) -> Grown:
    """Write up to `most` more tiles of leaves, and those above them. Raises Inconsistent where others are there."""
    row = await (await connection.execute(_END)).fetchone()
    assert row is not None
    # Positions have gaps, so that there may still be fewer events.
    if row["end"] - grown.position < WIDTH:
        return grown
    rows = await (await connection.execute(_NEXT, (grown.position, most * WIDTH), binary=True)).fetchall()
    if not rows:
        return grown
    async with connection.transaction():
        for row in rows:
            tile = leaf_tile(grown.tiles, (row["first"], row["last"]), row["hashes"], row["event_ids"])
            await _store(connection, tile)
            await _store_above(connection, tile.id)
            grown = Grown(grown.tiles + 1, tile.last_position)
    return grown


async def _store_above(connection: AsyncConnection[Any], last: TileId) -> None:
    """Make the tiles that a tile completes."""
    while (last.index + 1) % WIDTH == 0:
        first = last.index + 1 - WIDTH
        row = await (await connection.execute(_BELOW, (last.level, first, last.index + 1))).fetchone()
        assert row is not None
        if row["tiles"] < WIDTH:
            missing = WIDTH - row["tiles"]
            raise TreeGap(f"of the tiles {first} to {last.index} of level {last.level}, {missing} are missing")
        tile = tile_above(last, (row["first"], row["last"]), row["roots"])
        await _store(connection, tile)
        last = tile.id


async def _store(connection: AsyncConnection[Any], tile: Tile) -> None:
    columns = (tile.first_position, tile.last_position, tile.root, tile.hashes, tile.event_marks)
    if (await connection.execute(_INSERT, (tile.id.level, tile.id.index, *columns))).rowcount:
        return
    row = await (await connection.execute(_STORED, (tile.id.level, tile.id.index))).fetchone()
    # A row that another notary is about to commit can't be seen yet; it would have waited for it at INSERT.
    if row is None or tile_of(row) != tile:
        raise Inconsistent(f"tile {tile.id.index} of level {tile.id.level} is not what the events give")
