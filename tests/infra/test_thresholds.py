"""Thresholds from a file: what is set, what is left out, what is refused in which words, and the file itself."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from domain.anomalies.thresholds import DEFAULT, Thresholds
from infra.settings import SettingsError, load_detection_settings, load_settings
from infra.thresholds import Difference, ThresholdsError, as_toml, differences, in_effect, known, load, shown

WHOLE = "a whole number from"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "thresholds.toml"


def refusal(file: Path, content: str | bytes) -> str:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ThresholdsError) as caught:
        load(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert message.isprintable()
    assert len(message) < len(str(file)) + 200
    return message


def test_what_is_not_set_keeps_its_value(file: Path) -> None:
    file.write_text("hammer_run = 99\njobs = 3\nrisk_points = [1, 2.5, 3, 3]\n")
    found = load(file)
    assert found == msgspec.structs.replace(DEFAULT, hammer_run=99, jobs=3.0, risk_points=(1.0, 2.5, 3.0, 3.0))
    assert isinstance(found.jobs, float)


def test_an_empty_file_changes_nothing_and_none_means_the_program_s_own(file: Path) -> None:
    file.write_text("# nothing yet\n")
    assert load(file) == in_effect(None) == DEFAULT
    assert in_effect(file) == DEFAULT


def test_differences_are_named_in_their_order(file: Path) -> None:
    file.write_text("hammer_run = 99\nquiet_seconds = 60\n")
    assert differences(DEFAULT, load(file)) == (
        Difference("quiet_seconds", DEFAULT.quiet_seconds, 60),
        Difference("hammer_run", DEFAULT.hammer_run, 99),
    )
    assert differences(DEFAULT, DEFAULT) == ()


@pytest.mark.parametrize(
    "content, why",
    [
        ("hammer_run = 0", f"hammer_run must be {WHOLE} 1 to 1000000, not 0"),
        ("hammer_run = 1.5", f"hammer_run must be {WHOLE} 1 to 1000000, not 1.5"),
        ("hammer_run = true", f"hammer_run must be {WHOLE} 1 to 1000000, not true"),
        ("hammer_run = 'often\\n'", "hammer_run must be a whole number"),
        ('hammer_run = "of\\nten"', r"not 'of\nten'"),
        ("hammer_run = 0x" + "9" * 5000, "hammer_run must be a whole number"),
        ("hammer_run = " + "9" * 5000, "no TOML"),
        ("quiet_seconds = -1", f"quiet_seconds must be {WHOLE} 1 to 315360000, not -1"),
        ("settling_seconds = -1", f"settling_seconds must be {WHOLE} 0 to 315360000, not -1"),
        ("settling_seconds = 315360001", "not 315360001"),
        ("clone_far = -1", "clone_far must be"),
        ("jobs = 0", "jobs must be a number above 0, at most 1000000, not 0"),
        ("jobs = nan", "jobs must be a number above 0, at most 1000000, not nan"),
        ("jobs = inf", "not inf"),
        ("travel_km = -inf", "travel_km must be a number from 0 to 1000000, not -inf"),
        ("travel_km = nan", "not nan"),
        ("risk_points = [1, 2, 3]", "risk_points must be a list of 4, each a number from 0 to 100, not [1, 2, 3]"),
        ("risk_points = [1, 2, 3, 101]", "each a number from 0 to 100"),
        ("risk_points = [1, 2, 3, nan]", "not [1, 2, 3, nan]"),
        ("risk_points = [1, 3, 2, 4]", "risk_points must not fall from one severity to the next"),
        ("hammer_rum = 3", "there is no threshold hammer_rum; do you mean hammer_run?"),
        ("[hammer]\nrun = 3", "there is no threshold hammer"),
        ('"a\\nb" = 1', r"there is no threshold 'a\nb'"),
        (f"{'x' * 5000} = 1", "there is no threshold xxx"),
        ("hammer_run 3", "the file is no TOML: Expected '=' after a key in a key/value pair (at line 1, column 12)"),
        ("hammer_run = 3\nhammer_run = 4", "the file is no TOML"),
        ("x = " + "[" * 100_000, "the file is no TOML"),
        (b"hammer_run = 3 # \xff", "the file is no text in UTF-8"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_said_in_one_line(file: Path, content: str | bytes, why: str) -> None:
    assert why in refusal(file, content)


@pytest.mark.parametrize("name", [each.name for each in known()])
def test_no_threshold_takes_what_is_beyond_all_reason(file: Path, name: str) -> None:
    for value in ("nan", "-1", "-0.5", "inf", "1e300", "'1'", "true", "[]", "{}"):
        assert name in refusal(file, f"{name} = {value}")


@pytest.mark.parametrize(
    "name",
    [each.name for each in known() if each.name.endswith("_half_life_seconds")]
    + ["hammer_burst", "guessing_keys", "sharing_returns", "travel_incidents", "rotation_strangers"],
)
def test_what_is_divided_by_or_measured_against_is_not_zero(file: Path, name: str) -> None:
    assert name in refusal(file, f"{name} = 0")


def test_a_file_that_can_t_be_read_is_named(file: Path) -> None:
    with pytest.raises(ThresholdsError) as missing:
        load(file)
    assert str(missing.value) == f"{file}: the file can't be read: No such file or directory"
    with pytest.raises(ThresholdsError, match="Is a directory"):
        load(file.parent)


def test_the_written_file_is_read_back(file: Path) -> None:
    changed = msgspec.structs.replace(DEFAULT, hammer_run=99, jobs=0.125, risk_points=(1.0, 2.0, 3.0, 4.0))
    for thresholds in (DEFAULT, changed):
        file.write_text(as_toml(thresholds))
        assert load(file) == thresholds
        assert set(tomllib.loads(file.read_text())) == set(Thresholds.__struct_fields__)


def test_the_written_file_says_why_what_is_allowed_and_what_was_built_in() -> None:
    written = as_toml(msgspec.structs.replace(DEFAULT, quiet_seconds=86_400))
    assert "\nquiet_seconds = 86400  # 1 day\n" in written
    before, _, _ = written.partition("\nquiet_seconds = ")
    *_, reason, note = before.splitlines()
    assert reason.startswith("# An alert is not repeated for so long")
    assert note == "# Allowed: a whole number from 1 to 315360000. Built in: 604800 (7 days)."
    assert "Built in" not in as_toml(DEFAULT)
    assert max(map(len, written.splitlines())) <= 120


def test_every_threshold_has_a_reason_and_bounds() -> None:
    assert [each.name for each in known()] == list(Thresholds.__struct_fields__)
    for each in known():
        assert each.reason.endswith(".") or each.reason.endswith("..."), each.name
        assert each.reason.isprintable()
        assert "None" not in each.allowed, each.name


def test_the_program_s_own_are_within_their_bounds() -> None:
    assert msgspec.convert(msgspec.to_builtins(DEFAULT), Thresholds) == DEFAULT


@pytest.mark.parametrize(
    "name, value, text",
    [
        ("quiet_seconds", 172_800, "172800 (2 days)"),
        ("quiet_seconds", 5400, "5400 (90 minutes)"),
        ("quiet_seconds", 3601, "3601"),
        ("settling_seconds", 0, "0"),
        ("hammer_run", 3600, "3600"),
        ("risk_points", (1.0, 2.5), "[1.0, 2.5]"),
    ],
)
def test_times_are_shown_in_words_too(name: str, value: Any, text: str) -> None:
    assert shown(name, value) == text


def test_the_setting_is_checked_at_the_start(file: Path) -> None:
    environ = {"ANOMALY_THRESHOLDS": str(file)}
    for read in (load_settings, load_detection_settings):
        with pytest.raises(SettingsError) as missing:
            read(environ, None)
        assert str(missing.value) == f"ANOMALY_THRESHOLDS: {file}: the file can't be read: No such file or directory"
    file.write_text("hammer_run = 0")
    with pytest.raises(SettingsError, match=f"^ANOMALY_THRESHOLDS: {file}: hammer_run must be a whole number"):
        load_settings(environ, None)
    file.write_text("hammer_run = 9")
    assert load_settings(environ, None).anomaly_thresholds == file
    assert load_settings({}, None).anomaly_thresholds is None


def test_detection_over_files_needs_no_other_setting_to_be_right(file: Path) -> None:
    file.write_text("hammer_run = 9")
    environ = {"ANOMALY_THRESHOLDS": str(file), "DATA_DIR": "/etc/hostname/var", "AUTH_PORT": "many"}
    found = load_detection_settings(environ, None)
    assert (found.anomaly_thresholds, found.geo_database) == (file, None)
