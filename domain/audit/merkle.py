"""The Merkle tree of RFC 6962: roots, inclusion proofs, consistency proofs, and how each is checked.

What a proof consists of is said by ranges of leaves. Whoever keeps hashes of complete subtrees turns a range into them
(`complete_nodes`), and them into the range's hash (`fold`); so nothing here reads anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple, TypeAlias

Hash: TypeAlias = bytes
"""32 bytes of SHA-256."""

HASH_BYTES = 32
EMPTY_ROOT: Hash = sha256().digest()
"""The root of a tree without leaves (RFC 6962, section 2.1)."""


@dataclass(frozen=True, slots=True)
class Node:
    """A complete subtree: of leaves index * 2**height up to, and without, (index + 1) * 2**height."""

    height: int
    index: int


class Range(NamedTuple):
    """Leaves `begin` up to, and without, `end`."""

    begin: int
    end: int


def leaf_hash(data: bytes) -> Hash:
    """Return the hash of a leaf."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: Hash, right: Hash) -> Hash:
    """Return the hash of two subtrees put together."""
    return sha256(b"\x01" + left + right).digest()


def complete_nodes(leaves: Range) -> tuple[Node, ...]:
    """Return the complete subtrees of which a range consists, from left to right, the largest first.

    The range must be a subtree of some tree, as those of proofs are, or begin with the first leaf.
    """
    begin, end = leaves
    found: list[Node] = []
    while begin < end:
        height = (end - begin).bit_length() - 1
        found.append(Node(height, begin >> height))
        begin += 1 << height
    return tuple(found)


def fold(hashes: Sequence[Hash]) -> Hash:
    """Return the hash of a range, of those of its complete subtrees from left to right."""
    if not hashes:
        return EMPTY_ROOT
    *left, root = hashes
    for one in reversed(left):
        root = node_hash(one, root)
    return root


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """Return the ranges whose hashes prove that a leaf is in the tree of `size` leaves (RFC 6962, section 2.1.1)."""
    begin, end = 0, size
    found: list[Range] = []
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            found.append(Range(middle, end))
            end = middle
        else:
            found.append(Range(begin, middle))
            begin = middle
    return found[::-1]


def consistency_ranges(old: int, new: int) -> list[Range]:
    """Return the ranges whose hashes prove that a tree of `old` leaves is the beginning of one of `new`.

    RFC 6962, section 2.1.2. `old` is at least 1 and at most `new`.
    """
    begin, end, is_known = 0, new, True
    found: list[Range] = []
    while old < end:
        middle = begin + _split(end - begin)
        if old <= middle:
            found.append(Range(middle, end))
            end = middle
        else:
            found.append(Range(begin, middle))
            begin, is_known = middle, False
    if not is_known:
        found.append(Range(begin, end))
    return found[::-1]


def root_by_inclusion(leaf: Hash, index: int, size: int, proof: Sequence[Hash]) -> Hash | None:
    """Return the root to which a leaf and its proof lead; None where the proof is none (RFC 9162, section 2.1.3.2)."""
    if not 0 <= index < size:
        return None
    place, last, root = index, size - 1, leaf
    for one in proof:
        if last == 0:
            return None
        if place & 1 or place == last:
            root = node_hash(one, root)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            root = node_hash(root, one)
        place, last = place >> 1, last >> 1
    return root if last == 0 else None


def is_consistent(old: int, old_root: Hash, new: int, new_root: Hash, proof: Sequence[Hash]) -> bool:
    """Tell whether a proof shows that the old tree is the new one's beginning (RFC 9162, section 2.1.4.2)."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    first_root = second_root = path[0]
    for one in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            first_root, second_root = node_hash(one, first_root), node_hash(one, second_root)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            second_root = node_hash(second_root, one)
        place, last = place >> 1, last >> 1
    return last == 0 and first_root == old_root and second_root == new_root


class Frontier:
    """A tree that grows to the right: it keeps the complete subtrees at its edge, at most one of a height."""

    def __init__(self) -> None:
        self.size = 0
        self._edge: list[tuple[int, Hash]] = []

    def add(self, hash: Hash, height: int = 0) -> None:
        """Append a complete subtree; the size must be a multiple of its leaves."""
        self.size += 1 << height
        while self._edge and self._edge[-1][0] == height:
            hash = node_hash(self._edge.pop()[1], hash)
            height += 1
        self._edge.append((height, hash))

    @property
    def root(self) -> Hash:
        """The root of what there is so far."""
        return fold([hash for _, hash in self._edge])


def _split(leaves: int) -> int:
    """Return the largest power of two that is smaller than a number of leaves, which is 2 at least."""
    return 1 << ((leaves - 1).bit_length() - 1)
