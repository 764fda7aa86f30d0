"""The tree and its proofs: by test vectors of Certificate Transparency, and by the definition, for all small trees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    Hash,
    Range,
    complete_nodes,
    consistency_ranges,
    fold,
    inclusion_ranges,
    is_consistent,
    leaf_hash,
    node_hash,
    root_by_inclusion,
)

# Those of google/certificate-transparency, cpp/merkletree/merkle_tree_test.cc.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
}
CONSISTENCY = {
    (1, 8): INCLUSION[0, 8],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}


class Tree:
    """A tree by the definition of RFC 6962, section 2.1, which takes all leaves each time."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.hashes = [leaf_hash(leaf) for leaf in leaves]

    def hash_of(self, leaves: Range) -> Hash:
        if leaves.end - leaves.begin == 1:
            return self.hashes[leaves.begin]
        half = 1
        while half * 2 < leaves.end - leaves.begin:
            half *= 2
        middle = leaves.begin + half
        return node_hash(self.hash_of(Range(leaves.begin, middle)), self.hash_of(Range(middle, leaves.end)))

    def root(self, size: int) -> Hash:
        return self.hash_of(Range(0, size)) if size else EMPTY_ROOT

    def inclusion(self, index: int, size: int) -> list[Hash]:
        return [self.hash_of(one) for one in inclusion_ranges(index, size)]

    def consistency(self, old: int, new: int) -> list[Hash]:
        return [self.hash_of(one) for one in consistency_ranges(old, new)]


KNOWN = Tree(LEAVES)
MANY = Tree([b"%d" % number for number in range(70)])


def test_roots_are_the_known_ones() -> None:
    frontier = Frontier()
    assert frontier.root.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for hash, root in zip(KNOWN.hashes, ROOTS, strict=True):
        frontier.add(hash)
        assert frontier.root.hex() == root
        assert KNOWN.root(frontier.size).hex() == root


@pytest.mark.parametrize("place", INCLUSION)
def test_inclusion_proofs_are_the_known_ones(place: tuple[int, int]) -> None:
    assert [hash.hex() for hash in KNOWN.inclusion(*place)] == INCLUSION[place]


@pytest.mark.parametrize("sizes", CONSISTENCY)
def test_consistency_proofs_are_the_known_ones(sizes: tuple[int, int]) -> None:
    assert [hash.hex() for hash in KNOWN.consistency(*sizes)] == CONSISTENCY[sizes]


def test_every_proof_of_every_small_tree_is_good_and_good_for_nothing_else() -> None:
    for size in range(1, 35):
        root = MANY.root(size)
        for index in range(size):
            proof, leaf = MANY.inclusion(index, size), MANY.hashes[index]
            assert root_by_inclusion(leaf, index, size, proof) == root
            assert root_by_inclusion(MANY.hashes[index + 1], index, size, proof) != root
            assert root_by_inclusion(leaf, index ^ 1, size, proof) != root
            assert root_by_inclusion(leaf, index, size, [*proof, root]) is None
            assert not proof or root_by_inclusion(leaf, index, size, proof[:-1]) is None
        for old in range(1, size + 1):
            proof, old_root = MANY.consistency(old, size), MANY.root(old)
            assert is_consistent(old, old_root, size, root, proof)
            assert not is_consistent(old, MANY.root(old + 1), size, root, proof)
            assert not is_consistent(old, old_root, size, MANY.root(size + 1), proof)
            assert not is_consistent(old, old_root, size, root, [*proof, root])
            assert not proof or not is_consistent(old, old_root, size, root, proof[:-1])
    assert root_by_inclusion(MANY.hashes[0], 0, 0, []) is None
    assert not is_consistent(0, EMPTY_ROOT, 5, MANY.root(5), [])


@given(size=st.integers(1, 70), part=st.integers(0, 6))
def test_complete_subtrees_make_up_a_tree(size: int, part: int) -> None:
    nodes = complete_nodes(Range(0, size))
    assert [
        leaf for node in nodes for leaf in range(node.index << node.height, (node.index + 1) << node.height)
    ] == list(range(size))
    hashes = [MANY.hash_of(Range(node.index << node.height, (node.index + 1) << node.height)) for node in nodes]
    assert fold(hashes) == MANY.root(size)
    whole = size >> part << part
    frontier = Frontier()
    for begin in range(0, whole, 1 << part):
        frontier.add(MANY.hash_of(Range(begin, begin + (1 << part))), part)
    for index in range(whole, size):
        frontier.add(MANY.hashes[index])
    assert (frontier.size, frontier.root) == (size, MANY.root(size))
