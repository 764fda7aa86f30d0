"""How good detection is on made-up fleets: what is asked of it, on two fleets that stay the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.fleet.fleet import make_fleet
from bench.fleet.output import write
from bench.score import GOALS, score
from cli.backtest import Files, run
from domain.anomalies.thresholds import DEFAULT

LICENCES, DAYS = 400, 45
STATE_LIMIT = 4096


@pytest.mark.parametrize("seed", [1, 2])
def test_detection_reaches_what_is_asked(seed: int, tmp_path: Path) -> None:
    write(make_fleet(seed, LICENCES, DAYS), tmp_path)
    names = ("usage", "licenses", "detections", "scores")
    files = Files(*(tmp_path / f"{name}.jsonl" for name in names))
    done, _ = run(files, [DEFAULT], None, lambda _: None)
    assert 0 < done.largest_state <= STATE_LIMIT
    figures = score(tmp_path, tmp_path).figures
    short = {
        name: (figures[name], sense, goal)
        for name, (goal, sense) in GOALS.items()
        if (figures[name] < goal if sense == "at least" else figures[name] > goal)
    }
    assert not short, figures
