"""Reading the tree over the event log: hashes of its nodes, from whole tiles and, at its edge, from the events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from domain.audit.merkle import HASH_BYTES, Hash, Node, Range, complete_nodes, fold
from domain.audit.tiles import WIDTH, TileId, entries_of, subtree

LEAF_HASH = """
    sha256('\\x00'::bytea || int8send(notification_id) || uuid_send(originator_id) || int8send(originator_version)
        || int4send(octet_length(convert_to(topic, 'UTF8'))) || convert_to(topic, 'UTF8') || state)
"""
"""The hash of `domain.audit.leaf`, by PostgreSQL: events need not travel to be hashed."""

_TILES = (
    "SELECT level, index, hashes FROM audit_tiles WHERE (level, index) IN (SELECT * FROM unnest(%s::int[], %s::int8[]))"
)
_ROOTS = """
    SELECT string_agg(root, '' ORDER BY index) AS hashes FROM audit_tiles
    WHERE level = %s AND index >= %s AND index < %s
"""
_EDGE = f"""
    SELECT string_agg(leaf, '' ORDER BY position) AS hashes, coalesce(max(position), 0) AS last_position
    FROM (
        SELECT notification_id AS position, {LEAF_HASH} AS leaf FROM licensing_events
        WHERE notification_id > %s ORDER BY notification_id LIMIT %s
    ) AS edge
"""  # noqa: S608 - a constant
_LAST_POSITION = "SELECT last_position FROM audit_tiles WHERE level = 0 AND index = %s"


class TreeGap(Exception):
    """Tiles are missing, or events that there must be. The message names the place, for people."""


class Edge(NamedTuple):
    """Leaves after a whole tile: their hashes side by side, and the position of the last one, or 0."""

    hashes: bytes
    last_position: int

    @property
    def leaves(self) -> int:
        """How many there are."""
        return len(self.hashes) // HASH_BYTES


async def hashes_of(connection: Any, ranges: Sequence[Range]) -> list[Hash]:
    """Return the hash of each range of leaves. Raises TreeGap where the tree has not as many."""
    nodes = {node for one in ranges for node in complete_nodes(one)}
    found = await _nodes(connection, nodes)
    return [fold([found[node] for node in complete_nodes(one)]) for one in ranges]


async def root_at(connection: Any, size: int) -> Hash:
    """Return the root over the first `size` events. Raises TreeGap where there are not as many."""
    (root,) = await hashes_of(connection, [Range(0, size)])
    return root


async def edge_after(connection: Any, position: int, most: int = WIDTH - 1) -> Edge:
    """Return up to `most` leaves after a position."""
    row = await (await connection.execute(_EDGE, (position, most))).fetchone()
    return Edge(row["hashes"] or b"", row["last_position"])


async def last_position_of(connection: Any, tiles: int) -> int:
    """Return the position of the last event in the first `tiles` tiles of leaves. Raises TreeGap."""
    if tiles == 0:
        return 0
    row = await (await connection.execute(_LAST_POSITION, (tiles - 1,))).fetchone()
    if row is None:
        raise TreeGap(f"tile {tiles - 1} of level 0 is missing")
    position: int = row["last_position"]
    return position


async def _nodes(connection: Any, nodes: Iterable[Node]) -> dict[Node, Hash]:
    entries = {node: entries_of(node) for node in nodes}
    tiles = sorted({entry.tile for entry in entries.values()})
    hashes = await _whole(connection, tiles)
    for tile in tiles:
        if tile not in hashes:
            hashes[tile] = await _unfinished(connection, tile)
    found: dict[Node, Hash] = {}
    for node, entry in entries.items():
        tile, end = entry.tile, entry.first + entry.count
        wanted = hashes[tile][entry.first * HASH_BYTES : end * HASH_BYTES]
        if len(wanted) < entry.count * HASH_BYTES:
            raise TreeGap(
                f"tile {tile.index} of level {tile.level} has {len(hashes[tile]) // HASH_BYTES} hashes, not {end}"
            )
        found[node] = subtree(wanted)
    return found


async def _whole(connection: Any, tiles: Sequence[TileId]) -> dict[TileId, bytes]:
    if not tiles:
        return {}
    wanted = ([tile.level for tile in tiles], [tile.index for tile in tiles])
    rows = await (await connection.execute(_TILES, wanted)).fetchall()
    return {TileId(row["level"], row["index"]): row["hashes"] for row in rows}


async def _unfinished(connection: Any, tile: TileId) -> bytes:
    """Return the hashes that a tile has so far: the roots of those below it, or the log's last events."""
    first = tile.index * WIDTH
    if tile.level == 0:
        position = await last_position_of(connection, tile.index)
        return (await edge_after(connection, position, WIDTH)).hashes
    row = await (await connection.execute(_ROOTS, (tile.level - 1, first, first + WIDTH))).fetchone()
    return row["hashes"] or b""
