"""Checking a whole log against what was signed: hash every event anew, compare every tile and every checkpoint.

Nothing is believed but the checkpoints that are given, which must have been verified. Events and tiles are taken in
order, one by one, so that logs of any length are checked in little memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from domain.audit.leaf import leaf_data
from domain.audit.merkle import EMPTY_ROOT, HASH_BYTES, Frontier, Hash, leaf_hash
from domain.audit.tiles import WIDTH, Tile, TileId, event_id_in, event_mark, subtree

MOST_TOLD = 20
"""Faults that are told in words; after a deleted event, every later tile differs."""


class StoredRow(NamedTuple):
    """An event as it is stored."""

    position: int
    originator_id: UUID
    originator_version: int
    topic: str
    state: bytes


class Claim(NamedTuple):
    """A root that is said to be of the first `size` events, and by whom; perhaps also the last one's position.

    `fault` is what is wrong with it whatever the events are, such as its signature.
    """

    size: int
    root: Hash
    by: str
    position: int | None = None
    fault: str = ""


@dataclass(slots=True)
class Report:
    """What was found. `faults` are the first ones in words, `fault_count` is how many there are."""

    events: int = 0
    last_position: int = 0
    root: Hash = EMPTY_ROOT
    tiles: int = 0
    checkpoints: int = 0
    faults: list[str] = field(default_factory=list)
    fault_count: int = 0

    def blame(self, fault: str) -> None:
        """Note a fault."""
        self.fault_count += 1
        if len(self.faults) < MOST_TOLD:
            self.faults.append(fault)


class Checking:
    """Takes all events in order, then is asked for its report.

    `claims` are the checkpoints to compare with, the smallest first, of `covered` events at most. `tiles` gives the
    stored tiles of each level in the order of their indexes; None where there are none to compare, as in an export.
    They must be there as far as `covered` says.
    """

    def __init__(self, claims: Iterator[Claim], covered: int, tiles: Mapping[int, Iterator[Tile]] | None) -> None:
        self._claims = claims
        self._next_claim = next(claims, None)
        self._covered = covered
        self._levels = None if tiles is None else {level: _Level(stored) for level, stored in tiles.items()}
        self._frontier = Frontier()
        self._growing: list[_Growing] = [_Growing(0)]
        self._last: StoredRow | None = None
        self.report = Report()
        self._check_claims()

    def take(self, row: StoredRow) -> None:
        """Take the next event."""
        hash = leaf_hash(leaf_data(*row))
        self._frontier.add(hash)
        self._last = row
        self._grow(0, hash, row.position, event_mark(event_id_in(row.state)))
        self._check_claims()

    def finish(self) -> Report:
        """Compare what is left, and return the report."""
        report, size = self.report, self._frontier.size
        while self._next_claim is not None:
            claim = self._taken_claim()
            report.blame(f"the log has {size} events, {claim.by} covers {claim.size}")
        for level in (self._levels or {}).values():
            for tile in level.rest():
                report.blame(f"tile {tile.id.index} of level {tile.id.level} is of events that there are not")
        report.events, report.root = size, self._frontier.root
        report.last_position = self._last.position if self._last else 0
        return report

    def _check_claims(self) -> None:
        while self._next_claim is not None and self._next_claim.size <= self._frontier.size:
            claim = self._taken_claim()
            if claim.size < 0 or claim.root != self._frontier.root:
                self.report.blame(f"the first {claim.size} events are not those of {claim.by}")
            elif claim.position is not None and claim.position != (self._last.position if self._last else 0):
                self.report.blame(f"{claim.by} names another last position than its last event's")

    def _taken_claim(self) -> Claim:
        """Go on to the next claim; return this one, and note what is wrong with it by itself."""
        claim = self._next_claim
        assert claim is not None
        self.report.checkpoints += 1
        if claim.fault:
            self.report.blame(f"{claim.by} {claim.fault}")
        self._next_claim = next(self._claims, None)
        return claim

    def _grow(self, level: int, hash: Hash, position: int, mark: int | None, first: int | None = None) -> None:
        """Add a hash to the unfinished tile of a level; where it is whole, compare it and go on above."""
        if level == len(self._growing):
            self._growing.append(_Growing(level))
        growing = self._growing[level]
        growing.add(hash, position if first is None else first, position, mark)
        if len(growing.hashes) == WIDTH:
            tile = growing.whole()
            self._growing[level] = _Growing(level, tile.id.index + 1)
            self._compare(tile)
            self._grow(level + 1, tile.root, tile.last_position, None, tile.first_position)

    def _compare(self, tile: Tile) -> None:
        if self._levels is None:
            return
        report, name = self.report, f"tile {tile.id.index} of level {tile.id.level}"
        stored, unexpected = self._levels.setdefault(tile.id.level, _Level(iter(()))).at(tile.id.index)
        for one in unexpected:
            report.blame(f"tile {one.id.index} of level {one.id.level} should not be there")
        if stored is None:
            if tile.id.end <= self._covered:
                report.blame(f"{name} is missing")
            return
        report.tiles += 1
        if stored == tile:
            return
        report.blame(
            f"{name} differs from the events {tile.first_position} to {tile.last_position}{_where(tile, stored)}"
        )


class _Growing:
    """A tile that is not whole yet."""

    def __init__(self, level: int, index: int = 0) -> None:
        self.id = TileId(level, index)
        self.hashes: list[Hash] = []
        self._first = self._last = 0
        self._marks: list[int] = []

    def add(self, hash: Hash, first: int, last: int, mark: int | None) -> None:
        if not self.hashes:
            self._first = first
        self._last = last
        self.hashes.append(hash)
        if mark is not None:
            self._marks.append(mark)

    def whole(self) -> Tile:
        marks = self._marks if self.id.level == 0 else None
        hashes = b"".join(self.hashes)
        return Tile(self.id, self._first, self._last, subtree(hashes), hashes, marks)


class _Level:
    """The stored tiles of one level, in order."""

    def __init__(self, stored: Iterator[Tile]) -> None:
        self._stored = stored
        self._next = next(stored, None)

    def at(self, index: int) -> tuple[Tile | None, list[Tile]]:
        """Return the tile at an index, if it is there, and those before it that nobody has asked for."""
        passed: list[Tile] = []
        while self._next is not None and self._next.id.index < index:
            passed.append(self._next)
            self._next = next(self._stored, None)
        if self._next is None or self._next.id.index > index:
            return None, passed
        found, self._next = self._next, next(self._stored, None)
        return found, passed

    def rest(self) -> Iterator[Tile]:
        while self._next is not None:
            yield self._next
            self._next = next(self._stored, None)


def _where(tile: Tile, stored: Tile) -> str:
    """Say which hash is the first that differs."""
    if tile.hashes == stored.hashes:
        return "" if tile.root == stored.root else ", in its root"
    places = range(0, len(tile.hashes), HASH_BYTES)
    same = (tile.hashes[at : at + HASH_BYTES] == stored.hashes[at : at + HASH_BYTES] for at in places)
    place = next((at for at, is_same in enumerate(same) if not is_same), WIDTH)
    return f", first at number {tile.id.index * WIDTH + place} of that level"
