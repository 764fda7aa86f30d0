"""Tiles: 256 hashes side by side, of leaves (level 0), of whole tiles (level 1), of 256 such tiles (level 2) and more.

Hashes in between are made from these when they are asked for, and only whole tiles are kept. So a proof reads one row
a level, and rows are written once and never changed.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from domain.audit.merkle import HASH_BYTES, Hash, Node

WIDTH = 256
HEIGHT = 8
"""WIDTH is two to this power."""

EVENT_ID_AT = len('{"event_id":"')
"""Where an event's id begins in its stored JSON, of which it is the first field."""
EVENT_ID_LENGTH = 36


@dataclass(frozen=True, slots=True, order=True)
class TileId:
    """Which tile: the `index`-th of its level, from 0 on."""

    level: int
    index: int

    @property
    def leaves(self) -> int:
        """How many leaves it spans."""
        return int(WIDTH ** (self.level + 1))

    @property
    def end(self) -> int:
        """How many leaves there are up to its last one: in a tree of that size it is whole."""
        return (self.index + 1) * self.leaves


@dataclass(frozen=True, slots=True)
class Tile:
    """A whole tile. The positions are those of its first and last event; `event_marks` are at level 0 only."""

    id: TileId
    first_position: int
    last_position: int
    root: Hash
    hashes: bytes
    event_marks: list[int] | None = None


@dataclass(frozen=True, slots=True)
class Entries:
    """Which hashes of which tile make up a node."""

    tile: TileId
    first: int
    count: int


def entries_of(node: Node) -> Entries:
    """Return where a node's hash comes from."""
    level, above = divmod(node.height, HEIGHT)
    first = node.index << above
    return Entries(TileId(level, first // WIDTH), first % WIDTH, 1 << above)


def subtree(hashes: bytes) -> Hash:
    """Return the hash over 2**n hashes of one height, given side by side. Each step is `merkle.node_hash` of pairs."""
    while len(hashes) > HASH_BYTES:
        pairs = range(0, len(hashes), 2 * HASH_BYTES)
        hashes = b"".join([sha256(b"\x01" + hashes[at : at + 2 * HASH_BYTES]).digest() for at in pairs])
    return hashes


def event_mark(event_id: bytes) -> int:
    """Return 32 bits, as a signed number, by which the tile that may hold an event is found; `event_id` is its text."""
    mark = zlib.crc32(event_id)
    return mark - (1 << 32) if mark >> 31 else mark


def event_id_in(state: bytes) -> bytes:
    """Return the text of an event's id, from its stored JSON; of what is none of ours, whatever stands there."""
    return state[EVENT_ID_AT : EVENT_ID_AT + EVENT_ID_LENGTH]


def leaf_tile(index: int, positions: tuple[int, int], hashes: bytes, event_ids: Sequence[bytes]) -> Tile:
    """Make a tile of leaves; `positions` are the first and the last one's."""
    first, last = positions
    marks = [event_mark(one) for one in event_ids]
    return Tile(TileId(0, index), first, last, subtree(hashes), hashes, marks)


def tile_above(last: TileId, positions: tuple[int, int], roots: bytes) -> Tile:
    """Make the tile over 256 whole ones, of which `last` is the last; `roots` are theirs, side by side."""
    return Tile(TileId(last.level + 1, last.index // WIDTH), *positions, subtree(roots), roots)
