from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench import report, report_md
from bench.figures import Comparison, Goal, Result

OPTIONS = {"rounds": 2, "seconds": 6, "load_average_before": 0.1}


def test_what_was_written_as_json_becomes_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = Comparison(
        name="p99", unit="ms", ours=(4.0, 6.0), baseline="empty | handler", base=(2.0, 2.0), goal=Goal(2, is_limit=True)
    )
    told = Comparison(name="just started", unit="MB", ours=(93.0,))
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(report.as_json([Result("validate", [held, told], notes=["wrk used little"])], OPTIONS)))
    monkeypatch.setattr(sys, "argv", ["report_md", str(path)])
    assert report_md.main() == 0
    head, _, headings, _, first, second, _, note = capsys.readouterr().out.splitlines()
    assert "2 rounds of 6 seconds" in head
    assert headings.startswith("| what | ours |")
    assert first == (
        "| validate: p99 | 5 (4 .. 6) ms | empty \\| handler: 2 (2 .. 2) | 2.5 (2 .. 3) | ≤ 2 | short: 25% |"
    )
    assert second == "| validate: just started | 93 (93 .. 93) MB |  |  |  |  |"
    assert note == "- validate: wrk used little"


def test_without_a_file_it_says_how_it_is_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["report_md"])
    assert report_md.main() == 2
    assert "FILE.json" in capsys.readouterr().err
