"""`lizenzserver backtest`: files in, files out."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cli import backtest_command
from cli.errors import Failure

BEGIN = datetime(2026, 3, 2, tzinfo=UTC)
LICENSE = "6f1c8d0e-5b1d-4e0c-8a35-0d3a5f7c2b90"


def line(minutes: float, **fields: Any) -> dict[str, Any]:
    return {
        "time": (BEGIN + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z"),
        "type": "license.validated",
        "license_id": LICENSE,
        "hardware_id": "pc",
        "ip": "192.0.2.1",
        "country": "DE",
        "app_version": "1.0",
        "os": "Windows 11",
        **fields,
    }


def guess(minutes: float, number: int) -> dict[str, Any]:
    return line(
        minutes,
        type="license.validation.failed",
        license_id=None,
        ip="198.51.100.7",
        reason="LICENSE_NOT_FOUND",
        key_hash=f"{number:064x}",
    )


def hammered() -> list[dict[str, Any]]:
    return [line(number * 10) for number in range(300)] + [line(3000 + number / 6) for number in range(250)]


class Ran:
    def __init__(self, folder: Path, lines: list[Any], *options: str) -> None:
        self.folder = folder
        usage = "\n".join(text if isinstance(text, str) else json.dumps(text) for text in lines) + "\n"
        (folder / "usage.jsonl").write_text(usage)
        quiet = {"license_id": "a-quiet-one", "max_devices": 5, "floating": True, "expires_at": None}
        known = {"license_id": LICENSE, "max_devices": 1, "floating": False, "expires_at": "2027-01-01T00:00:00Z"}
        (folder / "licenses.jsonl").write_text(json.dumps(quiet) + "\n" + json.dumps(known) + "\n")
        app = typer.Typer()
        backtest_command.register(app)
        names = {"--usage": "usage", "--licenses": "licenses", "--out": "out", "--scores": "scores"}
        files = [part for option, name in names.items() for part in (option, str(folder / f"{name}.jsonl"))]
        self.result = CliRunner().invoke(app, [*files, *options])

    def lines(self, name: str) -> list[dict[str, Any]]:
        assert self.result.exit_code == 0, self.result.output
        return [json.loads(text) for text in (self.folder / f"{name}.jsonl").read_text().splitlines()]


def test_writes_what_is_found_and_a_score_for_each_licence(tmp_path: Path) -> None:
    ran = Ran(tmp_path, hammered())
    (found,) = ran.lines("out")
    assert list(found) == ["time", "type", "severity", "license_id", "explanation", "evidence"]
    assert (found["type"], found["severity"], found["license_id"]) == ("hammering", "medium", LICENSE)
    assert datetime.fromisoformat(found["time"]) > BEGIN + timedelta(minutes=3000)
    assert all(name.startswith("line ") for name in found["evidence"])
    scores = {row["license_id"]: row["score"] for row in ran.lines("scores")}
    assert scores == {"a-quiet-one": 0, LICENSE: pytest.approx(50, abs=1)}
    assert "1 hammering" in ran.result.output


def test_names_the_address_of_who_guesses_keys(tmp_path: Path) -> None:
    (found,) = Ran(tmp_path, [guess(number, number) for number in range(25)]).lines("out")
    assert (found["type"], found["license_id"], found["ip"]) == ("key_guessing", None, "198.51.100.7")


def test_uses_the_ids_of_the_rows_where_there_are_any(tmp_path: Path) -> None:
    lines = [{**row, "id": f"row-{number}"} for number, row in enumerate(hammered())]
    (found,) = Ran(tmp_path, lines).lines("out")
    assert all(name.startswith("row-") for name in found["evidence"])


def test_tolerates_unknown_types_fields_and_clocks(tmp_path: Path) -> None:
    odd = [
        line(0, type="license.sold", colour="red"),
        line(1, client_time="when the moon is full"),
        line(2, ip="nowhere", country=None, hardware_id=None),
        line(3, ip="2001:db8::1"),
        "",
    ]
    assert Ran(tmp_path, odd).lines("out") == []


def test_puts_lines_in_order_first_where_they_are_not(tmp_path: Path) -> None:
    straight, mixed = tmp_path / "straight", tmp_path / "mixed"
    for folder in (straight, mixed):
        folder.mkdir()
    rows = [{**row, "id": f"row-{number}"} for number, row in enumerate(hammered())]
    assert Ran(mixed, rows[::-1]).lines("out") == Ran(straight, rows).lines("out") != []


@pytest.mark.parametrize("bad", ["{", "[]", '{"time": "yesterday", "type": "x"}', json.dumps(line(1, license_id=7))])
def test_names_a_line_that_is_none(tmp_path: Path, bad: str) -> None:
    failure = Ran(tmp_path, [line(0), bad]).result.exception
    assert isinstance(failure, Failure)
    assert "usage.jsonl line 2: " in str(failure)


def test_summary_for_programs(tmp_path: Path) -> None:
    ran = Ran(tmp_path, hammered(), "--json")
    summary = json.loads(ran.result.stdout)
    assert (summary["lines"], summary["licenses"], summary["findings"]) == (550, 2, {"hammering": 1})
    assert 0 < summary["largest_state"] <= 4096
