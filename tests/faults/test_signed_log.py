"""V of the checker: checkpoints that were kept elsewhere are compared with the log, and what differs is found."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from infra.notary_key import KeptCheckpoint
from infra.postgres import Database
from tests.support.checker import Checker
from tests.support.notarised import fill, key_of, notarise, tree_of
from tests.support.signed_log import Signed

SIZES = (1, 256, 300, 777)


@pytest.fixture
def kept(database: Database, tmp_path: Path) -> Path:
    """Give a file with a checkpoint of each size, as the notary sends them away."""
    path = tmp_path / "checkpoints.txt"
    done = 0
    for size in SIZES:
        fill(database, size - done, seed=size)
        done = size
        asyncio.run(notarise(database, tmp_path))
        with path.open("a", encoding="utf-8") as file:
            file.write(KeptCheckpoint(tmp_path).read() or "")
    return path


def checker(database: Database, path: Path) -> Checker:
    return Checker(database, signed=Signed(path, key_of(path.parent).verifier.public))


def broken(one: Checker) -> list[str]:
    return one.check(settled=False).of("V")


def test_what_was_signed_is_the_log(database: Database, kept: Path) -> None:
    one = checker(database, kept)
    assert broken(one) == []
    assert one._signed is not None
    assert one._signed.size == len(one._tree) == SIZES[-1]
    assert one._tree.root(SIZES[-1]) == tree_of(database).root
    fill(database, 5, seed=5)
    assert broken(one) == []


@pytest.mark.parametrize("position, sizes", [(1, SIZES), (300, SIZES[2:]), (1_000, ())])
def test_an_event_that_was_changed_is_found(
    database: Database, kept: Path, position: int, sizes: tuple[int, ...]
) -> None:
    """Each checkpoint that covers it is told."""
    fill(database, 400, seed=9)
    with database.connect_owner() as owner:
        owner.execute(
            "UPDATE lizenzserver.licensing_events SET state = state || ' '"
            " WHERE notification_id = (SELECT min(notification_id) FROM lizenzserver.licensing_events"
            " WHERE notification_id >= %s)",
            (position,),
        )
    assert broken(checker(database, kept)) == [
        f"the checkpoint of {size} events has another root than the log" for size in sizes
    ]


def test_a_checkpoint_of_another_hand_is_found(database: Database, kept: Path) -> None:
    lines = kept.read_text("utf-8").splitlines(keepends=True)
    kept.write_text("".join(lines).replace("\n777\n", "\n776\n"), "utf-8")
    assert broken(checker(database, kept)) == ["the checkpoint of 776 events has a wrong signature"]


def test_what_is_half_written_is_read_once_it_is_whole(database: Database, kept: Path) -> None:
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-20])
    one = checker(database, kept)
    assert broken(one) == []
    assert one._signed is not None
    assert one._signed.size == SIZES[-2]
    kept.write_bytes(whole)
    assert broken(one) == []
    assert one._signed.size == SIZES[-1]
