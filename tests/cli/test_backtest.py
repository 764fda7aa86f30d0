"""`lizenzserver backtest`: files in, files out."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cli import backtest_command
from cli.backtest import Files, run
from cli.errors import Failure
from domain.anomalies.thresholds import DEFAULT
from infra.settings import SettingsError
from infra.thresholds import ThresholdsError
from tests.support.mmdb import write_mmdb

BEGIN = datetime(2026, 3, 2, tzinfo=UTC)
LICENSE = "6f1c8d0e-5b1d-4e0c-8a35-0d3a5f7c2b90"
DAY = 1440


@pytest.fixture(autouse=True)
def _no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where no .env is
    for name in ("GEO_DATABASE", "ANOMALY_THRESHOLDS"):
        monkeypatch.delenv(name, raising=False)


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


def test_a_changed_licence_is_taken_from_the_line_that_says_so(tmp_path: Path) -> None:
    grown = line(0, type="license.updated", hardware_id=None, ip=None, country=None, max_devices=20)
    assert kinds(Ran(tmp_path, abroad("BR"))) == ["impossible_travel"]
    assert kinds(Ran(tmp_path, [grown, *abroad("BR")])) == []


def test_never_writes_over_what_it_reads(tmp_path: Path) -> None:
    ran = Ran(tmp_path, hammered())
    usage = tmp_path / "usage.jsonl"
    before = usage.read_bytes()
    with pytest.raises(Failure, match="is read, so it can't be written"):
        run(Files(usage, tmp_path / "licenses.jsonl", tmp_path / "out", usage), [DEFAULT], None, lambda _: None)
    assert usage.read_bytes() == before != b""
    assert ran.lines("out")


def test_both_results_in_one_file_are_refused(tmp_path: Path) -> None:
    ran = Ran(tmp_path, hammered())
    same = tmp_path / "same"
    with pytest.raises(Failure, match="can't hold both"):
        run(Files(tmp_path / "usage.jsonl", tmp_path / "licenses.jsonl", same, same), [DEFAULT], None, lambda _: None)
    assert not same.exists()
    nowhere = Path(os.devnull)
    files = Files(tmp_path / "usage.jsonl", tmp_path / "licenses.jsonl", nowhere, nowhere)
    assert run(files, [DEFAULT], None, lambda _: None)[0].findings
    assert ran.lines("out")


@pytest.mark.parametrize("late", [0, 1])
def test_the_bar_ends_at_the_end(tmp_path: Path, late: int) -> None:
    rows = sorted(hammered() * 20, key=lambda row: str(row["time"]))
    Ran(tmp_path, rows[late:] + rows[:late])
    files = Files(*(tmp_path / f"{name}.jsonl" for name in ("usage", "licenses", "out", "scores")))
    told: list[int] = []
    run(files, [DEFAULT, DEFAULT], None, told.append)
    assert sum(told) == files.usage.stat().st_size
    assert len(told) > 2


# Where an address is


def abroad(country: str | None, ip: str = "8.8.4.4") -> list[dict[str, Any]]:
    """Twelve days at home; and on the last, somebody new elsewhere within half an hour."""
    home = [line(day * DAY + hour * 60, ip="1.1.1.1") for day in range(12) for hour in range(9, 17)]
    other = {"type": "license.activated", "hardware_id": "other", "ip": ip, "country": country}
    return [*home, line(11 * DAY + 16.5 * 60, **other)]


def kinds(ran: Ran) -> list[str]:
    return [found["type"] for found in ran.lines("out")]


def city(code: str, latitude: float, longitude: float) -> dict[str, Any]:
    return {"country": {"iso_code": code}, "location": {"latitude": latitude, "longitude": longitude}}


@pytest.fixture
def geo_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_mmdb(
        tmp_path / "city.mmdb",
        {
            "1.1.1.0/24": city("DE", 54.32, 10.14),  # Kiel
            "8.8.4.0/24": city("FR", 43.3, 5.37),  # Marseille
            "9.9.9.0/24": {"country": {"iso_code": "BR"}},
        },
    )
    monkeypatch.setenv("GEO_DATABASE", str(path))


def test_neighbouring_countries_are_not_far_apart(tmp_path: Path) -> None:
    assert kinds(Ran(tmp_path, abroad("FR"))) == []


def test_cities_in_them_are(tmp_path: Path, geo_database: None) -> None:
    assert kinds(Ran(tmp_path, abroad("FR"))) == ["impossible_travel"]


def test_a_city_in_another_country_than_the_line_s_says_nothing(tmp_path: Path, geo_database: None) -> None:
    assert kinds(Ran(tmp_path, abroad("NL"))) == []


def test_where_the_line_has_no_country_the_database_has(tmp_path: Path, geo_database: None) -> None:
    assert kinds(Ran(tmp_path, abroad(None))) == ["impossible_travel"]
    (found,) = Ran(tmp_path, abroad(None, ip="9.9.9.9")).lines("out")
    assert "DE and BR" in found["explanation"]


def test_where_neither_has_one_the_built_in_countries_have(tmp_path: Path) -> None:
    (found,) = Ran(tmp_path, abroad(None, ip="8.8.4.4")).lines("out")
    assert "DE and US" in found["explanation"]
    assert kinds(Ran(tmp_path, abroad(None, ip="10.0.0.1"))) == []


# Other thresholds


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return tmp_path / "new.toml"


def compared(ran: Ran) -> Any:
    assert ran.result.exit_code == 0, ran.result.output
    return json.loads(ran.result.stdout)["compared"]


def test_goes_by_other_thresholds(tmp_path: Path, new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new.write_text("hammer_run = 1000\nhammer_burst = 1000\n")
    assert kinds(Ran(tmp_path, hammered(), "--thresholds", str(new))) == []
    monkeypatch.setenv("ANOMALY_THRESHOLDS", str(new))
    assert kinds(Ran(tmp_path, hammered())) == []
    (tmp_path / "old.toml").write_text("")
    assert kinds(Ran(tmp_path, hammered(), "--thresholds", str(tmp_path / "old.toml"))) == ["hammering"]


def test_a_wrong_file_of_thresholds_is_named(tmp_path: Path, new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new.write_text("hammer_run = 0\n")
    refused = Ran(tmp_path, hammered(), "--thresholds", str(new)).result.exception
    assert isinstance(refused, ThresholdsError)
    assert not (tmp_path / "out.jsonl").exists()
    monkeypatch.setenv("ANOMALY_THRESHOLDS", str(new))
    assert isinstance(Ran(tmp_path, hammered()).result.exception, SettingsError)


def test_compare_needs_something_to_compare_with(tmp_path: Path) -> None:
    refused = Ran(tmp_path, hammered(), "--compare").result
    assert refused.exit_code == 2
    assert "--thresholds" in refused.output
    assert not (tmp_path / "out.jsonl").exists()


def test_compare_tells_what_would_be_gone(tmp_path: Path, new: Path) -> None:
    new.write_text("hammer_run = 1000\nhammer_burst = 1000\n")
    ran = Ran(tmp_path, hammered(), "--thresholds", str(new), "--compare", "--json")
    summary = json.loads(ran.result.stdout)
    assert (summary["lines"], summary["findings"], ran.lines("out")) == (550, {}, [])
    found = summary["compared"]
    assert found["findings"] == {"hammering": 1}
    assert found["thresholds"] == [
        {"name": "hammer_run", "before": DEFAULT.hammer_run, "after": 1000},
        {"name": "hammer_burst", "before": DEFAULT.hammer_burst, "after": 1000},
    ]
    (change,) = found["changes"]
    assert (change["license_id"], change["ip"], change["type"]) == (LICENSE, None, "hammering")
    assert (change["changes"], change["after"]) == (["gone"], None)
    assert (change["before"]["severity"], change["before"]["count"]) == ("medium", 1)
    (band,) = found["bands"]
    assert (band["license_id"], band["before"], band["after"]) == (LICENSE, "medium", "none")
    assert (band["score_before"], band["score_after"]) == (pytest.approx(50, abs=1), 0)


def test_compare_tells_what_would_be_added(tmp_path: Path, new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = tmp_path / "quiet.toml"
    quiet.write_text("hammer_run = 1000\nhammer_burst = 1000\n")
    monkeypatch.setenv("ANOMALY_THRESHOLDS", str(quiet))
    new.write_text("")
    ran = Ran(tmp_path, hammered(), "--thresholds", str(new), "--compare", "--json")
    (change,) = compared(ran)["changes"]
    assert (change["changes"], change["before"]) == (["added"], None)
    (detection,) = ran.lines("out")
    assert detection["time"] == change["after"]["first"]
    assert {row["license_id"]: row["score"] for row in ran.lines("scores")}[LICENSE] == pytest.approx(50, abs=1)
    assert compared(ran)["bands"][0]["after"] == "medium"


def test_compare_tells_what_would_come_sooner_worse_and_more_often(tmp_path: Path, new: Path) -> None:
    new.write_text("hammer_run = 20\nquiet_seconds = 60\n")
    forth = Ran(tmp_path, hammered(), "--thresholds", str(new), "--compare", "--json")
    (change,) = compared(forth)["changes"]
    assert change["changes"] == ["worse", "earlier", "more"]
    assert change["after"]["first"] < change["before"]["first"]
    assert (change["before"]["severity"], change["after"]["severity"]) == ("medium", "critical")
    assert change["after"]["count"] == len(forth.lines("out")) > change["before"]["count"] == 1


def test_compare_tells_what_would_come_later(tmp_path: Path, new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eager = tmp_path / "eager.toml"
    eager.write_text("hammer_run = 20\nquiet_seconds = 60\n")
    monkeypatch.setenv("ANOMALY_THRESHOLDS", str(eager))
    new.write_text("")
    back = Ran(tmp_path, hammered(), "--thresholds", str(new), "--compare", "--json")
    assert compared(back)["changes"][0]["changes"] == ["milder", "later", "fewer"]


def test_compare_tells_subjects_that_are_addresses(tmp_path: Path, new: Path) -> None:
    new.write_text("guessing_keys = 10\n")
    ran = Ran(
        tmp_path, [guess(number, number) for number in range(25)], "--thresholds", str(new), "--compare", "--json"
    )
    (change,) = compared(ran)["changes"]
    assert (change["license_id"], change["ip"], change["type"]) == (None, "198.51.100.7", "key_guessing")
    assert "earlier" in change["changes"]
    assert compared(ran)["bands"] == []


def test_compare_in_tables(tmp_path: Path, new: Path) -> None:
    new.write_text("hammer_run = 1000\nhammer_burst = 1000\n")
    shown = Ran(tmp_path, hammered(), "--thresholds", str(new), "--compare").result.stdout
    thresholds, by_kind, changes, bands = (part.splitlines() for part in shown.split("\n\n"))
    assert cells(thresholds[1]) == ["hammer_run", str(DEFAULT.hammer_run), "1000"]
    assert [cells(row) for row in by_kind[1:]] == [["hammering", "1", "0", "0", "1"]]
    change, kind, subject, severity, first, alerts = cells(changes[1])
    assert (change, kind, subject, severity, alerts) == ("gone", "hammering", LICENSE, "medium", "1")
    assert first.startswith("2026-03-04 ")
    assert cells(bands[1])[:2] == [LICENSE, "medium -> none"]


def test_compare_of_the_same_says_so(tmp_path: Path, new: Path) -> None:
    new.write_text("")
    ran = Ran(tmp_path, hammered(), "--thresholds", str(new), "--compare")
    assert ran.result.stdout == ""
    assert "no threshold differs" in ran.result.stderr
    assert "no alert differs" in ran.result.stderr


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.split("  ") if cell.strip()]
