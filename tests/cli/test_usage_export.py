"""`lizenzserver usage export`: both logs as files, and a backtest over them."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest

from bench.fleet.lines import Line
from cli import history
from cli.core import open_keyring
from cli.errors import Failure
from cli.history import History
from domain.identifiers import usage_row_id
from infra.postgres import Database
from projections.behaviour import Reached
from tests.cli.conftest import CommandLine
from tests.support.anomalies import change_thresholds
from tests.support.detecting import detect, found, parts_of, recorded_ids, vault_of, with_one_key
from tests.support.event_log import append
from tests.support.fleet_logs import Rows, event_id, fleet_lines, in_order, rows_of
from tests.support.service import settings_for
from tests.support.small_history import GUESSER, LEAKED, ORDINARY, line, small_history
from workers.detection import Parts
from workers.intake import Intake

LATE_SECONDS = 20.0
MIDDLE = "2024-03-08"
"""Four days after the small history begins."""

_ERASE = """
    UPDATE data_subjects SET wrapped_key = NULL
    WHERE subject_id IN (SELECT subject_id FROM usage WHERE license_id = %s)
"""
_UNKNOWN_EVENT = """
    INSERT INTO licensing_events (originator_id, originator_version, topic, state)
    VALUES (%s, 99, 'license.sold', '{}')
"""


@dataclass
class Exports:
    """Runs `lizenzserver usage export`."""

    cli: CommandLine
    folder: Path

    @property
    def usage(self) -> Path:
        return self.folder / "usage.jsonl"

    @property
    def licenses(self) -> Path:
        return self.folder / "licenses.jsonl"

    def command(self, *options: str) -> list[str]:
        return ["usage", "export", "--out", str(self.usage), "--licenses", str(self.licenses), *options]

    def __call__(self, *options: str) -> list[dict[str, Any]]:
        """Return the lines of what happened."""
        self.summary = self.cli(*self.command(*options), "--json").json
        lines = read(self.usage)
        assert (self.summary["lines"], self.summary["licenses"]) == (len(lines), len(read(self.licenses)))
        return lines

    def terms(self) -> dict[str, tuple[int, bool, str | None]]:
        """Return the terms that the last run has written, by licence."""
        return {row.pop("license_id"): tuple(row.values()) for row in read(self.licenses)}


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text().splitlines()]


@pytest.fixture
def exports(cli: CommandLine, tmp_path: Path) -> Exports:
    return Exports(cli, with_one_key(tmp_path))


def put(database: Database, folder: Path, lines: Sequence[Line]) -> Rows:
    rows = rows_of(database, folder, lines)
    rows.put(database)
    return rows


def some_come_late(lines: list[Line], seed: int) -> list[Line]:
    """Return lines in the order in which they are stored: each up to 20 s after it occurred."""
    random = Random(seed)
    return sorted(
        lines, key=lambda one: one.time + timedelta(seconds=random.choice((0.0, random.random())) * LATE_SECONDS)
    )


@pytest.mark.parametrize("fleet", [(2, 40, 12), (8, 30, 18)], ids=lambda fleet: f"seed {fleet[0]}")
def test_a_backtest_finds_what_detection_has_found(
    exports: Exports, database: Database, tmp_path: Path, fleet: tuple[int, int, int]
) -> None:
    put(database, tmp_path, some_come_late(fleet_lines(*fleet), fleet[0]))
    with parts_of(database, tmp_path) as parts:
        detect(database, parts)
    live = {
        (one.found_at, one.kind, one.severity, one.license_id, one.address, one.explanation, one.evidence)
        for one in found(database, vault_of(tmp_path))
    }
    exports()
    again = [str(part) for name in ("out", "scores") for part in (f"--{name}", tmp_path / f"{name}.jsonl")]
    files = ["--usage", str(exports.usage), "--licenses", str(exports.licenses)]
    assert exports.cli("backtest", *files, *again).code == 0
    assert {of_backtest(row) for row in read(tmp_path / "out.jsonl")} == live
    kinds = {kind for _, kind, *_ in live}
    assert "key_guessing" in kinds
    assert len(kinds) >= 5


def of_backtest(row: dict[str, Any]) -> tuple[Any, ...]:
    license_id = None if row["license_id"] is None else UUID(row["license_id"])
    found_at = datetime.fromisoformat(row["time"])
    return (
        found_at,
        row["type"],
        row["severity"],
        license_id,
        row.get("ip"),
        row["explanation"],
        tuple(row["evidence"]),
    )


def test_lines_say_what_happened(exports: Exports, database: Database, tmp_path: Path) -> None:
    lines = small_history()
    put(database, tmp_path, lines)
    vault, instance = vault_of(tmp_path), open_keyring(settings_for(tmp_path)).fingerprint
    written = exports()
    ids = {**{name: iter(range(1, 99)) for name in (LEAKED, ORDINARY)}, "": iter(range(1, 9999))}
    for told, original in zip(written, lines, strict=True):
        for name in ("type", "license_id", "hardware_id", "ip", "country", "app_version", "os"):
            assert told[name] == getattr(original, name), told
        assert told["time"] == original.time.isoformat().replace("+00:00", "Z")
        assert told.get("reason") == original.reason
        if "operation" in told:
            assert told["id"] == str(usage_row_id(instance, next(ids[""])))
        else:
            assert told["id"] == str(event_id(UUID(told["license_id"]), next(ids[told["license_id"]])))
        if original.key_hash is not None:
            assert told["key_hash"] == vault.lookup_hash("key", original.key_hash).hex()
    assert exports.summary["unopened_addresses"] == exports.summary["unreadable_events"] == 0


@pytest.mark.parametrize("new_thresholds", [False, True], ids=["", "with new thresholds"])
def test_the_order_is_that_of_detection(
    exports: Exports, database: Database, tmp_path: Path, *, new_thresholds: bool
) -> None:
    rows = rows_of(database, tmp_path, some_come_late(with_new_terms(), 3))
    append(database, rows.events[:6])
    rows.put_uses(database, rows.uses[:200])
    with parts_of(database, tmp_path) as parts:
        detect(database, parts)
        # What detection has recorded occurred now, years after the rest: that must not change what comes after.
        assert recorded_ids(database)
        if new_thresholds:
            # These are of now, and so is what comes after them in their log.
            change_thresholds(database, guessing_keys=20.0)
        append(database, rows.events[6:])
        rows.put_uses(database, rows.uses[200:])
        taken = looked_at(database, parts)
    assert [one["id"] for one in exports()] == taken
    assert taken != [one["id"] for one in sorted(exports(), key=lambda one: str(one["time"]))]


def looked_at(database: Database, parts: Parts) -> list[str]:
    """Return the ids of rows in the order in which a detection that begins anew looks at them."""
    intake = Intake(Reached(0, 0, 0.0, 0.0), parts.decode, parts.senders, parts.instance, 0.0, 100)
    ids: list[str] = []
    with database.connect() as connection:
        while not intake.read(connection, time.time()) or intake.is_waiting:
            ids += [taken.row.seen.id for taken in intake.take(100) if taken.row.seen is not None]
    return ids


def test_each_type_has_what_a_backtest_needs(exports: Exports, database: Database, tmp_path: Path) -> None:
    clock = line(0, "device.heartbeat", None, None).time
    moved = line(3, "license.transferred", LEAKED, "new-pc")
    moved.from_hardware_id = "old-pc"
    changed = line(4, "license.updated", LEAKED, None)
    changed.expires_at = None
    lines = [
        line(1, "license.issued", LEAKED, None),
        line(2, "license.activated", LEAKED, "old-pc", "198.51.100.7", os="Windows 11", client_time=clock),
        moved,
        changed,
        line(5, "license.deactivated", LEAKED, None),
        line(6, "license.reactivated", LEAKED, None),
        line(7, "device.heartbeat", LEAKED, "new-pc", "2001:db8::7", client_time=clock),
    ]
    put(database, tmp_path, lines)
    issued, activated, transferred, updated, *administrative, used = exports()
    assert (issued["max_devices"], issued["floating"], issued["expires_at"]) == (1, False, None)
    assert (activated["client_time"], activated["app_version"]) == ("2024-03-04T00:00:00Z", "5.1.0")
    assert (transferred["hardware_id"], transferred["from_hardware_id"]) == ("new-pc", "old-pc")
    assert updated["expires_at"] is None
    assert not {"max_devices", "floating"} & set(updated)
    assert [one["type"] for one in administrative] == ["license.deactivated", "license.reactivated"]
    assert (used["ip"], used["client_time"], used["operation"]) == ("2001:db8::7", "2024-03-04T00:00:00Z", "heartbeat")


def test_where_administrators_are_is_left_out(exports: Exports, database: Database, tmp_path: Path) -> None:
    office = "192.0.2.1"
    issued = line(1, "license.issued", LEAKED, None, office)
    put(database, tmp_path, [issued, line(2, "device.deactivated", LEAKED, "pc", office)])
    assert {(one["ip"], one["country"]) for one in exports()} == {(None, None)}
    assert office not in exports.usage.read_text()


def test_what_was_erased_is_null(exports: Exports, database: Database, tmp_path: Path) -> None:
    put(database, tmp_path, small_history())
    with database.connect() as connection:
        connection.execute(_ERASE, (ORDINARY,))
    lines = exports()
    of_erased = [one for one in lines if one["license_id"] == ORDINARY]
    assert {(one["ip"], one["os"]) for one in of_erased} == {(None, None)}
    assert {one["country"] for one in of_erased} == {"DE", None}
    had_one = [
        one for one in of_erased if one["type"] in {"license.validated", "device.heartbeat", "license.activated"}
    ]
    assert exports.summary["unopened_addresses"] == len(had_one)
    assert {one["ip"] for one in lines if one["license_id"] is None} == {GUESSER, "203.0.113.1"}
    assert f"{len(had_one)} lines have no address: it was erased\n" in exports.cli(*exports.command()).err


def with_new_terms() -> list[Line]:
    """Return the small history with two changes of a licence's terms, one before and one after its middle."""
    before, after = line(2, "license.updated", LEAKED, None), line(6, "license.updated", LEAKED, None)
    before.max_devices, after.max_devices = 7, 9
    return in_order([*small_history(), before, after, line(5, "license.issued", str(UUID(int=5)), None)])


def test_a_period_begins_with_the_terms_of_then(exports: Exports, database: Database, tmp_path: Path) -> None:
    put(database, tmp_path, with_new_terms())
    everything = exports()
    assert exports.terms() == {LEAKED: (2, False, None), ORDINARY: (3, False, None), str(UUID(int=5)): (1, False, None)}
    earlier = exports("--until", MIDDLE)
    assert exports.terms() == {LEAKED: (2, False, None), ORDINARY: (3, False, None)}
    later = exports("--since", f"{MIDDLE}T01:00:00+01:00")
    assert exports.terms() == {LEAKED: (7, False, None), ORDINARY: (3, False, None), str(UUID(int=5)): (1, False, None)}
    assert (earlier + later, earlier[-1]["time"] < MIDDLE < later[0]["time"]) == (everything, True)
    middle = exports("--since", MIDDLE, "--until", "2024-03-09T12:00:00Z")
    assert middle == [one for one in later if one["time"] < "2024-03-09T12"]


def test_one_licence(exports: Exports, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The late row comes after the seat was given up, since the row stored before it occurred after that.
    late = line(0.2, "device.heartbeat", LEAKED, "pc-late")
    given_up = line(0.20005, "device.deactivated", LEAKED, "pc-late")
    row_before = line(0.2001, "device.heartbeat", ORDINARY, "pc-0")
    lines = in_order([*with_new_terms(), row_before, given_up])
    lines.insert(lines.index(row_before) + 1, late)
    put(database, tmp_path, lines)
    of_leaked = [one for one in exports() if one["license_id"] == LEAKED]
    assert exports("--license", LEAKED) == of_leaked
    monkeypatch.setattr(history, "PAGE", 1)
    assert exports("--license", LEAKED) == of_leaked
    assert exports.terms() == {LEAKED: (2, False, None)}
    refused = exports.cli(*exports.command("--license", str(UUID(int=1))))
    assert (refused.code, refused.err) == (1, f"error: there is no licence {UUID(int=1)}\n")


def test_many_pages(exports: Exports, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(database, tmp_path, some_come_late(with_new_terms(), 2))
    everything, terms = exports(), exports.terms()
    monkeypatch.setattr(history, "PAGE", 7)
    monkeypatch.setattr(history, "LICENSES_A_PAGE", 1)
    assert (exports(), exports.terms()) == (everything, terms)
    part = exports("--since", MIDDLE, "--license", LEAKED)
    assert part == [one for one in everything if one["license_id"] == LEAKED and one["time"] > MIDDLE]


def test_days_that_are_gone(
    exports: Exports, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(database, tmp_path, small_history())
    everything = exports()
    with database.connect_owner() as connection:
        for day in ("20240304", "20240307", "20240312"):
            connection.execute(f"DROP TABLE lizenzserver.usage_{day}")
    monkeypatch.setattr(history, "PAGE", 3)
    gone = ("2024-03-04", "2024-03-07", "2024-03-12")
    kept = [one for one in everything if "operation" not in one or not one["time"].startswith(gone)]
    assert exports() == kept != everything


def test_what_comes_meanwhile_is_left_out(
    exports: Exports, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(database, tmp_path, with_new_terms())
    append(database, rows.events[:-1])
    rows.put_uses(database, rows.uses[:-100])
    before = exports()
    lines = History.lines

    def more_comes(self: History, advance: Any) -> Any:
        append(database, rows.events[-1:])
        rows.put_uses(database, rows.uses[-100:])
        return lines(self, advance)

    with monkeypatch.context() as patched:
        patched.setattr(History, "lines", more_comes)
        assert exports() == before
    assert len(exports()) == len(before) + 101


def test_an_event_that_cannot_be_read_is_left_out(exports: Exports, database: Database, tmp_path: Path) -> None:
    put(database, tmp_path, small_history())
    everything = exports()
    with database.connect() as connection:
        connection.execute(_UNKNOWN_EVENT, (LEAKED,))
    assert exports() == everything
    assert exports.summary["unreadable_events"] == 1
    assert "1 events can't be read by this program, and are left out\n" in exports.cli(*exports.command()).err


def test_an_empty_database(exports: Exports) -> None:
    assert exports() == []


@pytest.mark.parametrize("end, code", [(Failure("the disk is full"), 1), (KeyboardInterrupt(), 130)], ids=repr)
def test_an_export_that_was_ended_leaves_what_was_before(
    exports: Exports, database: Database, monkeypatch: pytest.MonkeyPatch, end: BaseException, code: int
) -> None:
    put(database, exports.folder, small_history())
    exports.usage.write_text("of before")
    before = sorted(exports.folder.iterdir())

    def ends(_: History) -> Any:
        raise end

    monkeypatch.setattr(History, "licenses", ends)
    assert exports.cli(*exports.command()).code == code
    assert (exports.usage.read_text(), sorted(exports.folder.iterdir())) == ("of before", before)


def test_files_are_for_their_owner_only(exports: Exports, database: Database, tmp_path: Path) -> None:
    put(database, tmp_path, small_history())
    exports.usage.touch(mode=0o644)
    assert len(exports()) > 100
    assert {stat.S_IMODE(path.stat().st_mode) for path in (exports.usage, exports.licenses)} == {0o600}


def test_a_folder_that_is_not_there(exports: Exports) -> None:
    file = exports.folder / "nowhere" / "usage.jsonl"
    refused = exports.cli("usage", "export", "--out", str(file), "--licenses", str(exports.licenses))
    assert (refused.code, refused.err) == (1, f"error: {file}: No such file or directory\n")


def test_a_target_that_is_no_file(exports: Exports) -> None:
    exports.usage.mkdir()
    refused = exports.cli(*exports.command())
    assert (refused.code, refused.err) == (1, f"error: {exports.usage} is no file\n")


@pytest.mark.parametrize(
    "options",
    [
        ("--since", "yesterday"),
        ("--since", "2024-03-08T12:00:00"),
        ("--until", "2024-02-30"),
        ("--since", "2024-03-08", "--until", "2024-03-08"),
        ("--license", "LIC-1"),
        ("--licenses", "usage.jsonl"),
    ],
)
def test_wrong_usage(bare: CommandLine, tmp_path: Path, options: tuple[str, ...]) -> None:
    refused = bare(*Exports(bare, tmp_path).command(*options))
    assert (refused.code, refused.out) == (2, "")
    assert list(tmp_path.iterdir()) == []


def test_the_help_says_that_addresses_are_in_it(bare: CommandLine) -> None:
    shown = " ".join(bare("usage", "export", "--help").out.split())
    assert "The files hold personal data: IP addresses" in shown
