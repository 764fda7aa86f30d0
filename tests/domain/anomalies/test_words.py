"""Explanations are read by people: numbers and words fit each other, and what is said is true."""

from __future__ import annotations

import pytest

from domain.anomalies.risk import score
from domain.anomalies.state import Factor
from domain.anomalies.thresholds import DAY, DEFAULT, HOUR
from domain.anomalies.words import about, counted, span


@pytest.mark.parametrize(
    "seconds, said",
    [
        (4 * DAY, "4 days"),
        (DAY, "1 day"),
        (36 * HOUR, "36 hours"),
        (HOUR, "1 hour"),
        (600, "10 minutes"),
        (90, "90 seconds"),
        (1, "1 second"),
    ],
)
def test_a_time_in_its_largest_whole_unit(seconds: int, said: str) -> None:
    assert span(seconds) == said


def test_how_long_something_lasted() -> None:
    assert [about(seconds) for seconds in (2.96 * DAY, 23.9 * HOUR, 3600, 59)] == [
        "3.0 days",
        "23 hours",
        "1 hour",
        "less than an hour",
    ]


def test_one_seat_and_more() -> None:
    assert (counted(1, "seat"), counted(2, "seat"), counted(0, "seat")) == ("1 seat", "2 seats", "0 seats")


def test_the_number_in_the_sentence_is_of_the_band_that_it_names() -> None:
    risk = score({0: Factor(79.9, 0)}, 0, DEFAULT)
    assert risk.band == "high"
    assert risk.explanation.startswith("The risk is 79 of 100 (high): ")
    assert score({0: Factor(49.98, 0)}, 0, DEFAULT).explanation.startswith("The risk is 50 of 100 (medium): ")
