from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from bench import plot, report
from bench.figures import Comparison, Curve, Goal, Point, Result, Spread, spread


def rates(ours: tuple[float, ...], base: tuple[float, ...] = (), goal: Goal | None = None) -> Comparison:
    return Comparison(name="under load", unit="/s", ours=ours, baseline="empty" if base else "", base=base, goal=goal)


def test_ratios_are_those_of_rounds_and_not_of_medians() -> None:
    found = rates((100.0, 200.0, 300.0), (400.0, 100.0, 200.0))
    assert found.ratios == (0.25, 2.0, 1.5)
    assert found.judged == 1.5
    assert spread(found.ratios) == Spread(1.5, 0.25, 2.0)


@pytest.mark.parametrize(
    "goal, verdict",
    [
        (Goal(0.5), "pass"),
        (Goal(0.6), "short: 17%"),
        (Goal(0.4, is_limit=True), "short: 25%"),
        (Goal(0.5, is_limit=True), "pass"),
        (None, "-"),
    ],
)
def test_a_ratio_is_held_against_what_is_asked(goal: Goal | None, verdict: str) -> None:
    assert rates((50.0, 50.0), (100.0, 100.0), goal).verdict == verdict


def test_without_a_baseline_the_figure_itself_is_held_against_what_is_asked() -> None:
    seconds = rates((2.0, 2.5, 9.0), goal=Goal(3, is_limit=True))
    assert seconds.ratios == ()
    assert (seconds.judged, seconds.verdict) == (2.5, "pass")


def test_rounds_that_do_not_match_are_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        _ = rates((1.0, 2.0), (1.0,)).ratios


def test_the_table_has_a_line_for_each_comparison_and_the_notes() -> None:
    result = Result("validate", [rates((6100.0, 6200.0), (12200.0, 12400.0), Goal(0.6))], notes=["wrk used 0.2 cores"])
    heading, _, row, _, note = report.table([result]).splitlines()
    assert heading.split() == ["what", "ours", "baseline", "ratio", "asked"]
    assert row.split("  ")[0] == "validate: under load"
    for part in ("6,150 (6,100 .. 6,200) /s", "empty", "12,300 (12,200 .. 12,400)", "0.5 (0.5 .. 0.5)", "≥ 0.6"):
        assert part in row
    assert row.endswith("short: 17%")
    assert note == "validate: wrk used 0.2 cores"


def test_json_has_every_round_and_the_machine() -> None:
    curve = Curve("growth", "licences", "ms", {"p50": (Point(1000, Spread(1.0, 0.9, 1.2)),)})
    found = report.as_json([Result("validate", [rates((50.0,), (100.0,), Goal(0.6))], [curve])], {"rounds": 1})
    (result,) = found["results"]
    (comparison,) = result["comparisons"]
    assert (comparison["ours"], comparison["base"], comparison["ratios"]) == ((50.0,), (100.0,), (0.5,))
    assert (comparison["goal"], comparison["verdict"]) == ("≥ 0.6", "short: 17%")
    assert result["curves"][0]["lines"] == {"p50": [{"x": 1000, "median": 1.0, "low": 0.9, "high": 1.2}]}
    assert found["options"] == {"rounds": 1}
    assert found["machine"]["cpus"] >= 1


def test_a_curve_is_drawn_from_left_to_right_and_higher_where_it_is_more() -> None:
    points = tuple(Point(10.0**power, spread([power, power + 0.5])) for power in (3, 4, 5, 6))
    picture = ET.fromstring(plot.svg([Curve("growth <1 M", "licences", "ms", {"p50 & more": points})]))
    name = "{http://www.w3.org/2000/svg}"
    (line,) = picture.iter(f"{name}polyline")
    places = [tuple(map(float, place.split(","))) for place in line.attrib["points"].split()]
    assert len(places) == 4
    assert places == sorted(places)
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=True)
    written = {text.text for text in picture.iter(f"{name}text")}
    assert {"growth <1 M", "p50 & more", "1,000", "1,000,000", "licences", "ms"} <= written
