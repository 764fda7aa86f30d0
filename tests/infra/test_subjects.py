"""Data subjects: found or made, whoever is first."""

from __future__ import annotations

from datetime import date
from typing import Any

from infra.postgres import Database
from infra.subjects import Subjects
from infra.vault import Vault


def vault() -> Vault:
    return Vault(b"m" * 32, b"l" * 32)


class Hesitating:
    """A connection that lets somebody else go first before it inserts anything."""

    def __init__(self, connection: Any, first: Any) -> None:
        self._connection = connection
        self._first = first

    async def execute(self, query: str, parameters: Any) -> Any:
        if "INSERT" in query:
            await self._first()
        return await self._connection.execute(query, parameters)


async def test_who_comes_second_takes_the_first_ones_key(database: Database) -> None:
    here, there = vault(), vault()
    hashes = [b"a" * 32, b"b" * 32]
    async with await database.connect_async() as one, await database.connect_async() as two:
        made: dict[bytes, Any] = {}

        async def first() -> None:
            made.update(await Subjects(there).ensure(two, hashes[:1]))

        found = await Subjects(here).ensure(Hesitating(one, first), hashes)
    assert found[hashes[0]] == made[hashes[0]]
    assert found.keys() == set(hashes)
    assert here.open(found[hashes[0]], there.seal(made[hashes[0]], "text")) == "text"


async def test_each_day_has_its_own(database: Database) -> None:
    days = [date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 1)]
    async with await database.connect_async() as connection:
        subjects = Subjects(vault())
        ids = [await subjects.of_day(connection, day) for day in days]
    assert ids[0] == ids[2] != ids[1]


async def test_a_key_is_there_by_the_databases_word(database: Database) -> None:
    """One that is damaged is told from one that is gone."""
    keys, other = vault(), vault()
    async with await database.connect_async() as connection:
        subject_id = await Subjects(keys).make(connection)
        assert await Subjects(other).key_of(connection, subject_id) == "there"
        assert other.open(subject_id, keys.seal(subject_id, "text")) == "text"
        await connection.execute("UPDATE data_subjects SET wrapped_key = 'x' WHERE subject_id = %s", (subject_id,))
        assert await Subjects(vault()).key_of(connection, subject_id) == "damaged"
        await connection.execute("UPDATE data_subjects SET wrapped_key = NULL WHERE subject_id = %s", (subject_id,))
        assert await Subjects(other).key_of(connection, subject_id) == "gone"
        assert not other.knows(subject_id), "nor is it in memory any more"
