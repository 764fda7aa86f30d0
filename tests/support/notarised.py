"""A log that a notary has signed, and the notary, one turn after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from domain.audit.checkpoint import Checkpoint, parse
from domain.audit.leaf import leaf_data
from domain.audit.merkle import Frontier, leaf_hash
from infra.notary_key import KeptCheckpoint, NotaryKey, verify
from infra.postgres import Database
from infra.settings import load_settings
from tests.support.event_log import append, lives_of_licenses
from workers.notary import Notary, Push

INSTANCE = "0123456789abcdef"
ORIGIN = f"lizenzserver/{INSTANCE}"


def key_of(data_dir: Path) -> NotaryKey:
    return NotaryKey.open(load_settings({"DATA_DIR": str(data_dir)}, None), INSTANCE)


def notary(database: Database, data_dir: Path, pushes: Sequence[Push] = (), sign_seconds: float = 0.0) -> Notary:
    key = key_of(data_dir)

    async def connect() -> Any:
        return await database.connect_async_worker("notary")

    return Notary(connect, key.verifier, key.sign, verify, KeptCheckpoint(data_dir), pushes, sign_seconds)


async def turns(one: Notary, most: int = 100) -> None:
    """Have a notary work until it has nothing more to do at once, or is in trouble."""
    for _ in range(most):
        if await one._turn() > 0:
            return
    raise AssertionError("the notary finds no end")


async def notarise(database: Database, data_dir: Path) -> Checkpoint:
    """Have all that there is signed; return the checkpoint, which is kept in the data folder too."""
    one = notary(database, data_dir)
    try:
        await turns(one)
        assert one.trouble == ""
    finally:
        await one._close()
    return kept(data_dir)


def kept(data_dir: Path) -> Checkpoint:
    text = KeptCheckpoint(data_dir).read()
    assert text is not None
    return parse(text).verified(key_of(data_dir).verifier, verify)


def fill(database: Database, count: int, seed: int = 1, *, gaps: bool = True) -> None:
    """Append events, with gaps in their positions as rolled back transactions leave them."""
    events = list(lives_of_licenses(count, seed))
    for start in range(0, len(events), 97):
        append(database, events[start : start + 97])
        if gaps:
            with database.connect() as connection:
                connection.execute("SELECT nextval('licensing_events_notification_id_seq') FROM generate_series(1, 3)")


def rows(database: Database) -> list[tuple[Any, ...]]:
    with database.connect_owner() as connection:
        found = connection.execute(
            "SELECT notification_id, originator_id, originator_version, topic, state"
            " FROM lizenzserver.licensing_events ORDER BY notification_id"
        ).fetchall()
    return [tuple(row.values()) for row in found]


def tree_of(database: Database) -> Frontier:
    """Make the tree from the events alone, in Python."""
    frontier = Frontier()
    for row in rows(database):
        frontier.add(leaf_hash(leaf_data(*row)))
    return frontier
