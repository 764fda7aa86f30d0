"""Proofs are of what was signed, to the last event and no further; of a tree that was changed there are none."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.audit.merkle import root_by_inclusion
from domain.errors import HistoryAltered, Invalid, NotFound, NotYetSigned
from infra.postgres import Database
from projections.audit_receipts import consistency, inclusion, newest, receipt
from tests.support.notarised import fill, notarise, rows

SIGNED, EVENTS = 600, 900


@pytest.fixture
async def connection(database: Database, tmp_path: Path) -> AsyncIterator[Any]:
    """Give a log of EVENTS, of which SIGNED are signed."""
    fill(database, SIGNED)
    await notarise(database, tmp_path)
    fill(database, EVENTS - SIGNED, seed=2)
    async with await database.connect_async() as connection:
        yield connection


def ids(database: Database) -> list[UUID]:
    return [UUID(json.loads(state)["event_id"]) for *_, state in rows(database)]


def change(database: Database, statement: str) -> None:
    with database.connect_owner() as owner:
        owner.execute("SET search_path TO lizenzserver")
        owner.execute(statement)


async def test_up_to_the_last_event_that_was_signed(connection: Any, database: Database) -> None:
    events = ids(database)
    assert (await receipt(connection, events[SIGNED - 1])).leaf_index == SIGNED - 1
    for index in (SIGNED, SIGNED + 1, EVENTS - 1):
        with pytest.raises(NotYetSigned):
            await receipt(connection, events[index])
        with pytest.raises(NotYetSigned):
            await inclusion(connection, events[index])
    with pytest.raises(NotFound):
        await receipt(connection, uuid4())


@pytest.mark.parametrize("most, refusal", [(50, NotYetSigned), (388, NotYetSigned), (389, NotFound)])
async def test_what_was_not_looked_at_may_be_signed_later(
    connection: Any, monkeypatch: pytest.MonkeyPatch, most: int, refusal: type[Exception]
) -> None:
    """After the last whole tile that is signed, of 512, there are 388 events."""
    monkeypatch.setattr("projections.audit_receipts.MOST_UNSIGNED", most)
    with pytest.raises(refusal):
        await receipt(connection, uuid4())


async def test_a_size_must_cover_the_event(connection: Any, database: Database) -> None:
    events = ids(database)
    for index in (0, 255, 256, 511, 512, SIGNED - 2):
        proof = await inclusion(connection, events[index], index + 1)
        assert root_by_inclusion(proof.leaf_hash, index, index + 1, proof.proof) == proof.root
        if index:
            with pytest.raises(Invalid):
                await inclusion(connection, events[index], index)
    for size in (SIGNED + 1, 2**63 - 1):
        with pytest.raises(Invalid):
            await inclusion(connection, events[0], size)
        with pytest.raises(Invalid):
            await consistency(connection, 1, size)


async def test_roots_of_earlier_sizes_are_those_of_the_tree_that_was_signed(
    connection: Any, database: Database
) -> None:
    """A hash is changed in a tile whose root is not: the last root does not rest on it, one in between does."""
    event, place = ids(database)[10], 200 * 32
    change(
        database,
        f"UPDATE audit_tiles SET hashes = overlay(hashes PLACING sha256('') FROM {place + 1} FOR 32)"
        " WHERE level = 0 AND index = 0",
    )
    for size in (201, 250, 255):
        with pytest.raises(HistoryAltered):
            await inclusion(connection, event, size)
        with pytest.raises(HistoryAltered):
            await consistency(connection, size)
        with pytest.raises(HistoryAltered):
            await consistency(connection, 100, size)
    assert (await consistency(connection, 256, 512)).to_size == 512


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_checkpoints SET size = 599",
        "UPDATE audit_checkpoints SET root = sha256('')",
        "UPDATE audit_checkpoints SET note = 'nonsense'",
    ],
)
async def test_a_checkpoint_that_says_other_than_its_note(connection: Any, database: Database, statement: str) -> None:
    change(database, statement)
    with pytest.raises(HistoryAltered):
        await newest(connection)
    with pytest.raises(HistoryAltered):
        await receipt(connection, ids(database)[0])
