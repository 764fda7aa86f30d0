"""docs/anomalies.md: its kinds, bands and thresholds are the program's."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from domain.anomalies import risk
from domain.anomalies.findings import KINDS, SEVERITIES
from domain.anomalies.state import Factor
from domain.anomalies.thresholds import DEFAULT, Thresholds
from infra.thresholds import known, shown

PAGE = Path(__file__).parents[2] / "docs" / "anomalies.md"
TEXT = PAGE.read_text("utf-8")
DAY = 86_400


def rows_after(mark: str) -> list[str]:
    """Return the rows of the table that follows a comment."""
    _, _, after = TEXT.partition(mark)
    return [line for line in after.split("\n\n")[1].splitlines() if line][2:]


def threshold_rows() -> list[str]:
    """Return what the table of thresholds must hold; print it to make the table anew."""
    return [f"| `{each.name}` | {shown(each.name, each.built_in)} | {each.reason} |" for each in known()]


def test_the_documented_thresholds_are_the_programs() -> None:
    assert rows_after("<!-- thresholds:") == threshold_rows()


def test_each_kind_is_explained() -> None:
    headings = re.findall(r"^### ([a-z_]+)$", TEXT, flags=re.MULTILINE)
    assert headings == list(KINDS)
    for kind in KINDS:
        section = TEXT.partition(f"### {kind}\n")[2].partition("\n###")[0]
        assert all(f"**{part}**: " in section for part in ("Means", "Leaves alone", "Look at")), kind


def test_the_documented_bands_are_the_programs() -> None:
    assert rows_after("<!-- bands:") == [f"| {band} | {least:g} |" for least, band in risk._BANDS]


@pytest.mark.parametrize("found", ["one medium", "two medium", "one critical"])
def test_the_examples_of_risk_are_right(found: str) -> None:
    (row,) = re.findall(rf"^\| {found} \| (.*) \|$", TEXT, flags=re.MULTILINE)
    count, severity = found.split()
    points = DEFAULT.risk_points[SEVERITIES.index(severity)]
    factors = {kind: Factor(points, 0) for kind in range(1, 2 + (count == "two"))}
    scores = [risk.score(factors, days * DAY, DEFAULT) for days in (0, 14, 28)]
    assert row.split(" | ") == [f"{score.score:g}, {score.band}" for score in scores]


def test_the_example_of_a_file_can_be_used() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", TEXT, flags=re.DOTALL)
    assert msgspec.convert(tomllib.loads(example), Thresholds) != DEFAULT
