"""What makes standings in memory safe: knowing what the log has changed since they were read."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from infra.postgres import Database
from projections import log_watch
from projections.log_watch import LogWatch, any_changed
from projections.standing import Standing
from projections.verdicts import StandingCache
from tests.support.orders import activate, carry_out, deactivate, issue, running_writer

A, B, C = UUID(int=1), UUID(int=2), UUID(int=3)


def started(position: int = 10) -> LogWatch:
    watch = LogWatch()
    watch.learn([(position, UUID(int=0))])
    return watch


class TestLogWatch:
    def test_what_was_read_before_the_first_look_counts_as_changed(self) -> None:
        watch = started(10)
        assert watch.changed_since(A, 9)
        assert not watch.changed_since(A, 10)

    def test_an_event_changes_what_was_read_before_it_and_nothing_else(self) -> None:
        watch = started(10)
        watch.learn([(11, A), (12, B), (15, A)])
        assert watch.position == 15
        assert [watch.changed_since(A, position) for position in (10, 11, 14, 15, 16)] == [
            True,
            True,
            True,
            False,
            False,
        ]
        assert [watch.changed_since(B, position) for position in (11, 12)] == [True, False]
        assert not watch.changed_since(C, 10)

    def test_a_look_that_finds_nothing_changes_nothing(self) -> None:
        watch = started(10)
        watch.learn([])
        assert (watch.position, watch.changed_since(A, 10)) == (10, False)

    def test_what_is_forgotten_counts_as_changed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(log_watch, "MAX_REMEMBERED", 3)
        watch = started(10)
        watch.learn([(11, A), (12, B)])
        watch.learn([(13, C), (14, UUID(int=4))])
        # A's change at 11 is forgotten: whatever was read before it may have changed.
        assert watch.changed_since(A, 10)
        assert watch.changed_since(UUID(int=99), 10)
        assert not watch.changed_since(UUID(int=99), 11)
        assert watch.changed_since(B, 11)

    async def test_its_query_finds_what_was_committed_since(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(log_watch, "MAX_REMEMBERED", 4)
        watch = LogWatch()
        first, second = uuid4(), uuid4()

        def look() -> None:
            with database.connect() as connection:
                rows: list[Any] = connection.execute(watch.query()).fetchall()
            watch.learn([tuple(row.values()) for row in rows])

        look()
        assert watch.position == 0
        async with running_writer(database) as writer:
            await carry_out(writer, issue(first), issue(second), activate(first, "a"))
            look()
            assert (watch.changed_since(first, 2), watch.changed_since(first, 3)) == (True, False)
            assert (watch.changed_since(second, 1), watch.changed_since(second, 2)) == (True, False)
            orders = [activate(second, name) for name in "abc"] + [deactivate(second, name) for name in "abc"]
            await carry_out(writer, *orders)
            # More than one look can take: nothing may count as unchanged that it has not seen.
            look()
            assert watch.changed_since(second, 8)
            look()
            assert watch.changed_since(second, 8)
            look()
            assert watch.position == 9
            assert not watch.changed_since(second, 9)

    async def test_the_log_itself_can_be_asked(self, database: Database) -> None:
        license_id, other = uuid4(), uuid4()
        async with running_writer(database) as writer:
            await carry_out(writer, issue(license_id), issue(other), activate(license_id, "a"))
        async with await database.connect_async() as connection:
            assert await any_changed(connection, [(license_id, 2)])
            assert not await any_changed(connection, [(license_id, 3), (other, 2)])
            assert await any_changed(connection, [(license_id, 3), (other, 1)])
            assert not await any_changed(connection, [])


def standing(license_id: UUID = A, position: int = 10, **fields: Any) -> Standing:
    given: dict[str, Any] = {
        "license_id": license_id,
        "subject_id": UUID(int=9),
        "product": None,
        "edition": None,
        "max_devices": 3,
        "current_devices": 1,
        "features": (),
        "is_active": True,
        "epoch": 0,
        "expires_at": None,
        "activation_id": UUID(int=8),
        "os_info_sealed": None,
        "wrapped_key": None,
        "position": position,
        "read_at": 100.0,
    }
    return Standing(**{**given, **fields})


class TestStandingCache:
    def test_gives_what_was_put_until_it_is_too_old(self) -> None:
        cache = StandingCache(started())
        kept = standing()
        cache.put((A.bytes, b"d"), kept)
        assert cache.get((A.bytes, b"d"), 400.0) is kept
        assert cache.get((A.bytes, b"other"), 100.0) is None
        assert cache.get((A.bytes, b"d"), 400.1) is None

    def test_while_the_database_is_away_the_last_look_at_the_log_counts(self) -> None:
        now = [500.0]
        watch = LogWatch(lambda: now[0])
        watch.query()
        watch.learn([(10, UUID(int=0))])
        cache = StandingCache(watch)
        cache.put((A.bytes, b"d"), kept := standing())
        assert cache.get((A.bytes, b"d"), 500.0) is None
        assert cache.get((A.bytes, b"d"), 800.0, is_away=True) is kept
        assert cache.get((A.bytes, b"d"), 800.1, is_away=True) is None
        now[0] = 600.0
        watch.query()
        # An answer that was long on its way says how it was when it began.
        now[0] = 608.0
        watch.learn([(11, B)])
        assert cache.get((A.bytes, b"d"), 900.0, is_away=True) is kept
        assert cache.get((A.bytes, b"d"), 900.1, is_away=True) is None
        watch.learn([(12, A)])
        assert cache.get((A.bytes, b"d"), 600.0, is_away=True) is None

    def test_keeps_only_what_is_positive(self) -> None:
        cache = StandingCache(started())
        cache.put((A.bytes, b"d"), standing(is_active=False))
        cache.put((A.bytes, b"d"), standing(activation_id=None))
        assert len(cache) == 0

    def test_gives_nothing_that_the_log_has_changed(self) -> None:
        watch = started()
        cache = StandingCache(watch)
        cache.put((A.bytes, b"d"), standing(A))
        cache.put((B.bytes, b"d"), standing(B))
        watch.learn([(11, A)])
        assert cache.get((A.bytes, b"d"), 100.0) is None
        assert cache.get((B.bytes, b"d"), 100.0) is not None

    def test_keeps_nothing_that_was_read_before_a_change_it_knows(self) -> None:
        watch = started()
        watch.learn([(11, A)])
        cache = StandingCache(watch)
        cache.put((A.bytes, b"d"), standing(position=10))
        assert cache.get((A.bytes, b"d"), 100.0) is None
        cache.put((A.bytes, b"d"), standing(position=11))
        assert cache.get((A.bytes, b"d"), 100.0) is not None

    def test_forgets_the_least_recently_used_first(self) -> None:
        cache = StandingCache(started(), capacity=2)
        for license_id in (A, B):
            cache.put((license_id.bytes, b"d"), standing(license_id))
        cache.get((A.bytes, b"d"), 100.0)
        cache.put((C.bytes, b"d"), standing(C))
        assert [cache.get((one.bytes, b"d"), 100.0) is not None for one in (A, B, C)] == [True, False, True]

    def test_drops_on_request(self) -> None:
        cache = StandingCache(started())
        cache.put((A.bytes, b"d"), standing())
        cache.drop((A.bytes, b"d"))
        cache.drop((A.bytes, b"d"))
        assert len(cache) == 0
