"""Proofs of the event log, and receipts: all that it takes to check one event without us."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any
from uuid import UUID

import msgspec

from domain.audit.checkpoint import BadCheckpoint, parse
from domain.audit.leaf import leaf_data
from domain.audit.merkle import (
    Hash,
    Range,
    consistency_ranges,
    inclusion_ranges,
    is_consistent,
    leaf_hash,
    root_by_inclusion,
)
from domain.audit.tiles import EVENT_ID_AT, EVENT_ID_LENGTH, WIDTH, event_mark
from domain.errors import HistoryAltered, Invalid, NotFound, NotYetSigned
from projections import checkpoints
from projections.audit_tree import TreeGap, hashes_of, last_position_of
from projections.checkpoints import Signed

MOST_UNSIGNED = 50_000
"""Events after the last checkpoint among which an id is looked for."""

_IS_IT = f"substring(state FROM {EVENT_ID_AT + 1} FOR {EVENT_ID_LENGTH}) = %(id)s"
_COLUMNS = "notification_id, originator_id, originator_version, topic, state"
# The limit keeps the server from looking through the whole log instead, which it takes for cheaper once that is long.
_IN_TILES = f"""
    SELECT {_COLUMNS}, tile.index * {WIDTH} + place AS index
    FROM audit_tiles AS tile CROSS JOIN LATERAL (
        SELECT {_COLUMNS}, row_number() OVER (ORDER BY notification_id) - 1 AS place FROM licensing_events
        WHERE notification_id >= tile.first_position ORDER BY notification_id LIMIT {WIDTH}
    ) AS event
    WHERE tile.level = 0 AND tile.event_marks @> ARRAY[%(mark)s::int4] AND {_IS_IT}
"""  # noqa: S608 - constants
_AFTER_TILES = f"""
    SELECT {_COLUMNS}, %(first)s + place AS index FROM (
        SELECT {_COLUMNS}, row_number() OVER (ORDER BY notification_id) - 1 AS place
        FROM (
            SELECT {_COLUMNS} FROM licensing_events WHERE notification_id > %(after)s
            ORDER BY notification_id LIMIT %(most)s
        ) AS page
    ) AS page
    WHERE {_IS_IT} OR place = %(most)s - 1
"""  # noqa: S608


class Inclusion(msgspec.Struct, frozen=True, kw_only=True):
    """That an event is the `leaf_index`-th (from 0 on) of the first `size` events. Hashes are base64."""

    event_id: UUID
    position: int
    leaf_index: int
    size: int
    leaf_hash: bytes
    root: bytes
    proof: list[bytes]


class Consistency(msgspec.Struct, frozen=True, kw_only=True):
    """That the tree of `from_size` events is the beginning of the one of `to_size`. Hashes are base64."""

    from_size: int
    to_size: int
    from_root: bytes
    to_root: bytes
    proof: list[bytes]


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """An event with the proof that it is under a checkpoint.

    `leaf` (base64) is all of the event as it is stored: position (8 bytes), aggregate's id (16), version (8), length of
    the type (4), type, JSON. Numbers are big-endian; personal data in it is encrypted. `proof` leads from the leaf's
    hash to the checkpoint's root (RFC 6962).
    """

    event_id: UUID
    type: str
    position: int
    leaf_index: int
    leaf: bytes
    proof: list[bytes]
    checkpoint: str


@dataclass(frozen=True, slots=True)
class _Found:
    position: int
    index: int
    topic: str
    leaf: bytes


async def newest(connection: Any) -> Signed:
    """Return the last checkpoint, which says in its columns what its note says. Raises NotYetSigned, HistoryAltered."""
    signed = await checkpoints.newest(connection)
    if signed is None:
        raise NotYetSigned
    try:
        noted = parse(signed.note).checkpoint
    except BadCheckpoint as error:
        raise HistoryAltered from error
    if (noted.size, noted.root) != (signed.size, signed.root):
        raise HistoryAltered
    return signed


async def inclusion(connection: Any, event_id: UUID, size: int | None = None) -> Inclusion:
    """Prove that an event is in the tree, by default in the one that was signed last.

    Raises NotFound, NotYetSigned, HistoryAltered, and Invalid where the size does not cover it or was not signed.
    """
    signed = await newest(connection)
    within = signed.size if size is None else _signed_size("size", size, signed)
    found = await _find(connection, event_id, signed)
    if found.index >= within:
        raise Invalid(None, size="does not cover the event")
    proof, root = await _proof(connection, found, within, signed)
    return Inclusion(
        event_id=event_id,
        position=found.position,
        leaf_index=found.index,
        size=within,
        leaf_hash=leaf_hash(found.leaf),
        root=root,
        proof=proof,
    )


async def consistency(connection: Any, from_size: int, to_size: int | None = None) -> Consistency:
    """Prove that a tree is the beginning of a later one, by default of the one that was signed last.

    Raises NotYetSigned, HistoryAltered, and Invalid where a size is beyond what was signed.
    """
    signed = await newest(connection)
    new = signed.size if to_size is None else _signed_size("to_size", to_size, signed)
    if from_size > new:
        raise Invalid(None, from_size=f"is over {new}")
    (from_root, to_root), proof = await _hashes(
        connection, (from_size, new), consistency_ranges(from_size, new), signed
    )
    if not is_consistent(from_size, from_root, new, to_root, proof):
        raise HistoryAltered
    return Consistency(from_size=from_size, to_size=new, from_root=from_root, to_root=to_root, proof=proof)


async def receipt(connection: Any, event_id: UUID) -> Receipt:
    """Make the receipt of an event under the last checkpoint. Raises NotFound, NotYetSigned and HistoryAltered."""
    signed = await newest(connection)
    found = await _find(connection, event_id, signed)
    proof, _ = await _proof(connection, found, signed.size, signed)
    return Receipt(
        event_id=event_id,
        type=found.topic,
        position=found.position,
        leaf_index=found.index,
        leaf=found.leaf,
        proof=proof,
        checkpoint=signed.note,
    )


def _signed_size(field: str, size: int, signed: Signed) -> int:
    if size > signed.size:
        raise Invalid(None, **{field: f"is over {signed.size}, the last checkpoint's"})
    return size


async def _find(connection: Any, event_id: UUID, signed: Signed) -> _Found:
    text = str(event_id).encode()
    cursor = await connection.execute(_IN_TILES, {"id": text, "mark": event_mark(text)})
    row = await cursor.fetchone()
    if row is None:
        row = await _find_after(connection, text, signed.size // WIDTH)
    if row["index"] >= signed.size:
        raise NotYetSigned
    columns = (row["notification_id"], row["originator_id"], row["originator_version"], row["topic"], row["state"])
    return _Found(row["notification_id"], row["index"], row["topic"], leaf_data(*columns))


async def _find_after(connection: Any, text: bytes, tiles: int) -> Any:
    after = await last_position_of(connection, tiles)
    wanted = {"id": text, "after": after, "first": tiles * WIDTH, "most": MOST_UNSIGNED}
    cursor = await connection.execute(_AFTER_TILES, wanted)
    rows = await cursor.fetchall()
    for row in rows:
        if row["state"][EVENT_ID_AT : EVENT_ID_AT + EVENT_ID_LENGTH] == text:
            return row
    # So many wait for the notary that the event may be among those that were not looked at.
    raise NotYetSigned if rows else NotFound


async def _proof(connection: Any, found: _Found, size: int, signed: Signed) -> tuple[list[bytes], bytes]:
    """Return an event's proof and the root to which it leads, which is the tree's."""
    (root,), proof = await _hashes(connection, (size,), inclusion_ranges(found.index, size), signed)
    if root_by_inclusion(leaf_hash(found.leaf), found.index, size, proof) != root:
        raise HistoryAltered(position=found.position)
    return proof, root


async def _hashes(
    connection: Any, sizes: Sequence[int], ranges: Sequence[Range], signed: Signed
) -> tuple[list[Hash], list[Hash]]:
    """Return the roots that the tree had at some sizes, and hashes of ranges of it. Raises HistoryAltered.

    Each root is shown, by a proof of its own, to be of a beginning of the tree that was signed last.
    """
    links = [consistency_ranges(size, signed.size) for size in sizes]
    wanted = [Range(0, signed.size), *(Range(0, size) for size in sizes), *ranges, *chain.from_iterable(links)]
    try:
        found = iter(await hashes_of(connection, wanted))
    except TreeGap as gap:
        raise HistoryAltered(str(gap)) from gap
    root, roots, hashes = next(found), list(islice(found, len(sizes))), list(islice(found, len(ranges)))
    linked = [
        is_consistent(size, old, signed.size, root, list(islice(found, len(link))))
        for size, old, link in zip(sizes, roots, links, strict=True)
    ]
    if root != signed.root or not all(linked):
        raise HistoryAltered
    return roots, hashes
