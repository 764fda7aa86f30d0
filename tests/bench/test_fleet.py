from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from bench.fleet.abuse import GUESSING, KINDS
from bench.fleet.fleet import Fleet, make_fleet
from bench.fleet.lines import moment
from bench.fleet.output import write
from bench.score import average_precision, rows, score

LICENCES, DAYS = 40, 21
SEEDS = (1, 4)
FROM_THE_START = 1


@pytest.fixture(scope="module", params=SEEDS)
def fleet(request: pytest.FixtureRequest) -> Fleet:
    return make_fleet(request.param, LICENCES, DAYS)


@pytest.fixture(scope="module")
def usage(fleet: Fleet) -> list[dict[str, Any]]:
    return [json.loads(line) for line in fleet.usage]


def test_a_seed_makes_the_same_fleet_again_and_another_seed_another(fleet: Fleet) -> None:
    seed = int(fleet.world.dice.name.removeprefix("fleet/"))
    again = make_fleet(seed, LICENCES, DAYS)
    assert again.usage == fleet.usage
    assert again.licences == fleet.licences
    assert again.truth == fleet.truth
    assert make_fleet(seed + 100, LICENCES, DAYS).usage[:50] != fleet.usage[:50]


def test_lines_are_in_order_of_time_and_within_the_window(fleet: Fleet, usage: list[dict[str, Any]]) -> None:
    times = [datetime.fromisoformat(line["time"]) for line in usage]
    assert times == sorted(times)
    window = fleet.world.window
    assert moment(window.start) <= times[0]
    assert times[-1] < moment(window.end)


def test_every_line_has_the_fields_of_the_backtest(fleet: Fleet, usage: list[dict[str, Any]]) -> None:
    known = {licence["license_id"] for licence in fleet.licences}
    always = {"time", "type", "license_id", "hardware_id", "ip", "country", "app_version", "os"}
    for line in usage:
        assert always <= line.keys()
        assert (line["license_id"] is None) == ("key_hash" in line)
        assert line["license_id"] is None or line["license_id"] in known
        assert ("reason" in line) == (line["type"] == "license.validation.failed")


def test_each_kind_of_abuse_is_there_and_each_subject_has_one(fleet: Fleet) -> None:
    assert {abuse.kind for abuse in fleet.truth} == {*KINDS, GUESSING}
    assert len(set(fleet.subjects)) == len(fleet.truth)


def test_labels_agree_with_what_the_server_logged(fleet: Fleet, usage: list[dict[str, Any]]) -> None:
    lines = defaultdict(list)
    for line in usage:
        lines[line["license_id"] or line["ip"]].append(line)
    for subject, abuse in zip(fleet.subjects, fleet.truth, strict=True):
        assert abuse.started is not None
        assert abuse.ended is not None
        since = [line for line in lines[subject] if line["time"] >= _written(abuse.started)]
        assert since[0]["time"] == _written(abuse.started)
        assert len(since) >= abuse.events
        assert abuse.events >= 3


def test_no_licence_ever_has_more_devices_than_seats() -> None:
    fleet = make_fleet(FROM_THE_START, LICENCES, DAYS)
    assert fleet.world.style.from_the_start
    usage = [json.loads(line) for line in fleet.usage]
    seats: dict[str, set[str]] = defaultdict(set)
    most: dict[str, int] = defaultdict(int)
    for line in usage:
        license_id = line["license_id"]
        if line["type"] in {"license.activated", "license.transferred"}:
            seats[license_id].add(line["hardware_id"])
        if line["type"] in {"device.deactivated", "license.transferred"}:
            seats[license_id].discard(line.get("from_hardware_id") or line["hardware_id"])
        if license_id:
            most[license_id] = max(most[license_id], len(seats[license_id]))
    terms = {str(licence["license_id"]): licence["max_devices"] for licence in fleet.licences}
    grown = {license_id for license_id, sort in fleet.sorts.items() if sort in {"team", "company", "enterprise"}}
    for license_id in terms.keys() - grown:
        assert most[license_id] <= cast("int", terms[license_id])


def test_clocks_are_put_back_after_the_end_of_the_term_only(fleet: Fleet, usage: list[dict[str, Any]]) -> None:
    for subject, abuse in zip(fleet.subjects, fleet.truth, strict=True):
        if abuse.kind == "clock_rollback":
            end = next(one["expires_at"] for one in fleet.licences if one["license_id"] == subject)
            assert isinstance(end, datetime)
            cheats = [
                line
                for line in usage
                if line["license_id"] == subject
                and line["time"] >= _written(abuse.started or 0)
                and line.get("client_time", "9") < end.isoformat()
            ]
            assert cheats
            assert {line["reason"] for line in cheats} == {"LICENSE_EXPIRED"}


def test_a_perfect_run_scores_perfectly_and_an_empty_one_nothing(fleet: Fleet, tmp_path: Path) -> None:
    write(fleet, tmp_path)
    truth = list(rows(tmp_path / "truth.jsonl"))
    abused = {row["license_id"] for row in truth}
    alerts = [
        {"time": row["started_at"], "type": row["kind"], "license_id": row["license_id"], "ip": row["ip"],
         "severity": "high", "explanation": "", "evidence": []}
        for row in truth
    ]  # fmt: skip
    risks = [
        {"license_id": one["license_id"], "score": 90 if one["license_id"] in abused else 3} for one in fleet.licences
    ]
    (tmp_path / "detections.jsonl").write_text("\n".join(json.dumps(alert) for alert in alerts))
    (tmp_path / "scores.jsonl").write_text("\n".join(json.dumps(risk) for risk in risks))
    perfect = score(tmp_path, tmp_path)
    assert set(perfect.by_same_kind.values()) == {1.0}
    assert perfect.figures == {
        "precision": 1.0,
        "recall": 1.0,
        "lowest recall of a kind": 1.0,
        "false alerts per 1,000 licence-days": 0.0,
        "median hours to detect": 0.0,
        "average precision of scores": 1.0,
    }
    (tmp_path / "detections.jsonl").write_text("")
    assert score(tmp_path, tmp_path).figures["recall"] == 0.0


def test_alerts_too_early_or_at_honest_subjects_are_false(fleet: Fleet, tmp_path: Path) -> None:
    write(fleet, tmp_path)
    abused = next(row for row in rows(tmp_path / "truth.jsonl") if row["license_id"])
    honest = next(one["license_id"] for one in fleet.licences if one["license_id"] not in fleet.subjects)
    early = {
        "time": "2020-01-01T00:00:00Z",
        "type": "leaked_key",
        "license_id": abused["license_id"],
        "explanation": "",
    }
    wrong = {"time": abused["ended_at"], "type": "leaked_key", "license_id": honest, "explanation": ""}
    (tmp_path / "detections.jsonl").write_text(f"{json.dumps(early)}\n{json.dumps(wrong)}\n{json.dumps(wrong)}\n")
    (tmp_path / "scores.jsonl").write_text("")
    result = score(tmp_path, tmp_path)
    assert result.figures["precision"] == 0.0
    assert result.figures["recall"] == 0.0
    assert result.figures["false alerts per 1,000 licence-days"] == pytest.approx(3 / (LICENCES * DAYS) * 1000)


def test_average_precision_does_not_depend_on_the_order_of_equal_scores() -> None:
    ranked = [(9.0, True), (5.0, False), (5.0, True), (1.0, False)]
    assert average_precision(ranked) == average_precision(ranked[::-1]) == pytest.approx(0.5 + 0.5 * 2 / 3)


def _written(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
