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

_EDGE = f"""
    SELECT string_agg(leaf, '' ORDER BY position) AS hashes, coalesce(max(position), 0) AS last_position
    FROM (
        SELECT notification_id AS position, {LEAF_HASH} AS leaf FROM licensing_events
        WHERE notification_id > %s ORDER BY notification_id LIMIT %s
    ) AS edge
"""  # noqa: S608 - a constant
# One question for all of it: whole tiles, the roots of tiles below unfinished ones, and the events after the last tile.
_HASHES = f"""
    SELECT level, index, hashes FROM audit_tiles
    WHERE (level, index) IN (SELECT * FROM unnest(%(whole_levels)s::int[], %(whole_indexes)s::int8[]))
    UNION ALL
    SELECT above.level, above.index, (
        SELECT string_agg(root, '' ORDER BY below.index) FROM audit_tiles AS below
        WHERE below.level = above.level - 1
            AND below.index >= above.index * {WIDTH} AND below.index < (above.index + 1) * {WIDTH})
    FROM unnest(%(open_levels)s::int[], %(open_indexes)s::int8[]) AS above (level, index)
    UNION ALL
    SELECT 0, %(edge)s::int8, (
        SELECT string_agg(leaf, '' ORDER BY position) FROM (
            SELECT notification_id AS position, {LEAF_HASH} AS leaf FROM licensing_events
            WHERE notification_id > CASE WHEN %(edge)s::int8 = 0 THEN 0 ELSE (
                SELECT last_position FROM audit_tiles WHERE level = 0 AND index = %(edge)s::int8 - 1) END
            ORDER BY notification_id LIMIT %(leaves)s
        ) AS edge)
"""  # noqa: S608
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
    found = await _nodes(connection, nodes, max(one.end for one in ranges))
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


async def _nodes(connection: Any, nodes: Iterable[Node], size: int) -> dict[Node, Hash]:
    """Return the hashes of nodes within the first `size` events: tiles that are whole by then must be there."""
    entries = {node: entries_of(node) for node in nodes}
    hashes = await _hashes(connection, sorted({entry.tile for entry in entries.values()}), size)
    found: dict[Node, Hash] = {}
    for node, entry in entries.items():
        tile, end = entry.tile, entry.first + entry.count
        have = hashes.get(tile) or b""
        wanted = have[entry.first * HASH_BYTES : end * HASH_BYTES]
        if not have and tile.end <= size:
            raise TreeGap(f"tile {tile.index} of level {tile.level} is missing")
        if len(wanted) < entry.count * HASH_BYTES:
            raise TreeGap(f"tile {tile.index} of level {tile.level} has {len(have) // HASH_BYTES} hashes, not {end}")
        found[node] = subtree(wanted)
    return found


async def _hashes(connection: Any, tiles: Sequence[TileId], size: int) -> dict[TileId, bytes]:
    whole = [tile for tile in tiles if tile.end <= size]
    unfinished = [tile for tile in tiles if tile.end > size and tile.level]
    # At most one tile of leaves is unfinished: the last one.
    edge = next((tile for tile in tiles if tile.end > size and not tile.level), None)
    wanted = {
        "whole_levels": [tile.level for tile in whole],
        "whole_indexes": [tile.index for tile in whole],
        "open_levels": [tile.level for tile in unfinished],
        "open_indexes": [tile.index for tile in unfinished],
        "edge": edge.index if edge else -1,
        "leaves": size - edge.index * WIDTH if edge else 0,
    }
    rows = await (await connection.execute(_HASHES, wanted)).fetchall()
    return {TileId(row["level"], row["index"]): row["hashes"] for row in rows}
