"""When the usage log is worth a look, though its ids are given out before its rows can be seen."""

from __future__ import annotations

import pytest

from commands.writer import OUTCOME_SECONDS
from workers.intake import SETTLE_SECONDS
from workers.log_reader import UsageWatch


def test_it_is_looked_at_for_two_seconds_after_an_id_and_then_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, now = UsageWatch(), 1000.0
    monkeypatch.setattr("workers.log_reader.time.monotonic", lambda: now)
    found = []
    for tenth in range(50):
        now = 1000.0 + tenth / 10
        found.append(watch.may_have_news(7))
    assert found[:21] == [True] * 21
    assert [tenth for tenth, looked in enumerate(found) if looked and tenth > 20] == [30, 40]
    now += 0.01
    assert watch.may_have_news(8)


def test_a_row_settles_no_sooner_than_its_order_may_be_answered() -> None:
    """What occurred before may come into the log for as long: the other log's rows must wait for it."""
    assert SETTLE_SECONDS >= OUTCOME_SECONDS
