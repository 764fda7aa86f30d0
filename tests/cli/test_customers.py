"""`customers`: exporting all that is stored of a person, and erasing it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.erasure_register import ErasureRegister
from infra.postgres import Database
from tests.cli.conftest import CommandLine

EMAIL = "zoe.zwoelfender@example.org"


def issue(cli: CommandLine, *options: str) -> str:
    issued = cli("licenses", "create", "--json", *options).json
    return str(issued["license_id"])


def test_an_export_is_whole_and_its_owners_alone(cli: CommandLine, tmp_path: Path) -> None:
    license_id = issue(cli, "--customer", "acme", "--email", EMAIL, "--metadata", '{"note": "hers"}')
    issue(cli, "--customer", "other", "--email", "bob@example.org")
    out = tmp_path / "acme.json"
    assert cli("customers", "export", "acme", "--out", str(out)).code == 0
    assert out.stat().st_mode & 0o777 == 0o600
    exported = json.loads(out.read_text())
    assert [one["license_id"] for one in exported["licenses"]] == [license_id]
    assert exported["licenses"][0]["metadata"] == {"note": "hers"}
    assert [event["type"] for event in exported["events"]] == ["license.issued"]
    assert exported["usage"] == []
    assert "bob" not in out.read_text()
    assert cli("customers", "export", "nobody").code == 1


def test_an_export_is_valid_json_over_many_pages(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    for module in ("api.customer_export", "cli.customer_commands"):
        monkeypatch.setattr(f"{module}.PAGE", 2)
    for number in range(5):
        issue(cli, "--customer", "acme", "--email", f"{number}@example.org")
    out = tmp_path / "acme.json"
    assert cli("customers", "export", "acme", "--out", str(out)).code == 0
    assert len(json.loads(out.read_text())["events"]) == 5


def test_erased_is_erased_and_history_can_be_folded_again(cli: CommandLine, tmp_path: Path) -> None:
    license_id = issue(cli, "--customer", "acme", "--email", EMAIL)
    erased = cli("customers", "erase", "acme", "--reason", "ticket 4711", "--yes", "--json").json
    assert erased["license_ids"] == [license_id]
    shown = cli("licenses", "show", license_id, "--json").json
    assert (shown["customer_id"], shown["email"]) == (None, None)
    assert cli("licenses", "list", "--customer", "acme", "--json").json["total"] == 0
    again = cli("customers", "erase", "acme", "--reason", "ticket 4711", "--yes")
    assert (again.code, again.err) == (1, "error: there is no such customer, or not any more\n")
    assert cli("licenses", "export", str(tmp_path / "all.csv")).code == 0
    assert EMAIL not in (tmp_path / "all.csv").read_text()
    assert cli("check", "licenses").code == 0
    assert cli("rebuild", "licenses").code == 0
    assert cli("check", "licenses").code == 0
    (line,) = ErasureRegister(tmp_path / "erasures.jsonl").read()
    assert (str(line.subject_id), line.ordered_by) == (erased["subject_ids"][0], "job:customers-erase")
    second = issue(cli, "--customer", "acme", "--email", EMAIL)
    assert cli("licenses", "show", second, "--json").json["email"] == EMAIL


def test_by_email_it_says_whose_licences_stay(cli: CommandLine) -> None:
    issue(cli, "--email", EMAIL)
    firms = issue(cli, "--customer", "firm", "--email", EMAIL)
    erased = cli("customers", "erase", EMAIL.upper(), "--by", "email", "--reason", "t", "--yes", "--json").json
    assert erased["licenses_of_others"] == [firms]
    assert cli("licenses", "show", firms, "--json").json["email"] == EMAIL


def test_it_asks_first_and_wants_a_reason(cli: CommandLine, database: Database) -> None:
    issue(cli, "--customer", "acme")
    assert cli("customers", "erase", "acme", "--reason", "t", stdin=b"n\n").code == 1
    assert cli("customers", "erase", "acme", "--yes").code == 2
    assert cli("customers", "erase", "acme", "--reason", " ", "--yes").code == 1
    assert cli("licenses", "list", "--customer", "acme", "--json").json["total"] == 1
    assert cli("customers", "erase", "acme", "--reason", "t", stdin=b"y\n").code == 0
    with database.connect() as connection:
        row = connection.execute("SELECT count(*) AS erased FROM data_subjects WHERE wrapped_key IS NULL").fetchone()
    assert row == {"erased": 1}
