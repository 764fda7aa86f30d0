"""`lizenzserver thresholds`: the file to edit, and its check."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from domain.anomalies.thresholds import DEFAULT, Thresholds
from infra.thresholds import load
from tests.cli.conftest import CommandLine


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "thresholds.toml"


def test_prints_the_file_to_edit(bare: CommandLine, file: Path) -> None:
    printed = bare("thresholds")
    assert (printed.code, printed.err) == (0, "")
    assert list(tomllib.loads(printed.out)) == list(Thresholds.__struct_fields__)
    file.write_text(printed.out)
    assert load(file) == DEFAULT
    assert bare("thresholds", "--check", str(file)).err.endswith("differ from those in effect: 0\n")


def test_prints_those_in_effect(bare: CommandLine, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("hammer_run = 99\n")
    monkeypatch.setenv("ANOMALY_THRESHOLDS", str(file))
    printed = bare("thresholds").out
    assert tomllib.loads(printed)["hammer_run"] == 99
    assert f"Built in: {DEFAULT.hammer_run}." in printed


def test_the_setting_may_be_in_the_dotenv_file(bare: CommandLine, file: Path) -> None:
    file.write_text("hammer_run = 99\n")
    (file.parent / ".env").write_text(f"ANOMALY_THRESHOLDS={file.name}\n")
    assert tomllib.loads(bare("thresholds").out)["hammer_run"] == 99


def test_shows_what_a_file_changes(bare: CommandLine, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("quiet_seconds = 86400\n")
    checked = bare("thresholds", "--check", str(file))
    assert checked.code == 0
    header, row = checked.out.splitlines()
    assert header.split("  ")[0] == "threshold"
    assert row.split("  ") == ["quiet_seconds", "604800 (7 days)", "86400 (1 day)"]
    assert f"{file} can be used" in checked.err

    monkeypatch.setenv("ANOMALY_THRESHOLDS", str(file))
    again = bare("thresholds", "--check", str(file))
    assert (again.code, again.out) == (0, "")


@pytest.mark.parametrize("content, why", [("hammer_run = 0", "hammer_run must be"), (None, "can't be read")])
def test_a_wrong_file_is_an_error_in_one_line(bare: CommandLine, file: Path, content: str | None, why: str) -> None:
    if content is not None:
        file.write_text(content)
    refused = bare("thresholds", "--check", str(file))
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith(f"error: {file}: ")
    assert why in refused.err
    assert refused.err.count("\n") == 1


def test_a_wrong_setting_is_named(bare: CommandLine, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOMALY_THRESHOLDS", str(file))
    refused = bare("thresholds")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == f"error: ANOMALY_THRESHOLDS: {file}: the file can't be read: No such file or directory\n"


@pytest.mark.parametrize("command", ["thresholds", "backtest"])
def test_teaches_by_example(bare: CommandLine, command: str) -> None:
    assert f"Examples:\n  lizenzserver {command}" in bare(command, "--help").out
