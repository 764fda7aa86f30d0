"""Licences in and out as CSV."""

from __future__ import annotations

import asyncio
import csv
import io
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import import_csv
from cli.core import Workbench
from cli.csv_format import read_cell, write_cell
from commands.orders import Order
from domain.errors import ServiceUnavailable
from infra.postgres import Database
from tests.cli.conftest import CommandLine
from tests.support.client import Client
from tests.support.cluster import Cluster

FULL = """\
customer_id,email,product,edition,max_devices,expires_at,features,is_test,floating,metadata,license_key,is_active
=1+1,ann@example.com,Planwerk,pro,5,2030-01-31,export;api,true,TRUE,"{""n"": 1}",old-key 0001,
C-2,,,,,2020-06-30T12:00:00+02:00,a\\;b;  c ,,,,,no
,bob@example.com,"Plan
werk",,1,,,,,,'=legacy,yes
"""


@pytest.fixture
def second(cluster: Cluster) -> Iterator[Database]:
    database = cluster.new_database()
    yield database
    cluster.drop(database)


def licenses_of(cli: CommandLine) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cli("licenses", "list", "--limit", "10000", "--json").json["licenses"]
    return sorted(found, key=lambda one: str(one["customer_id"]))


def test_every_column_arrives(cli: CommandLine) -> None:
    done = cli("licenses", "import", "-", "--json", stdin=FULL.encode("utf-8-sig")).json
    assert (done["imported"], done["skipped"], [one["line"] for one in done["licenses"]]) == (3, 0, [2, 3, 4])
    first, second, third = licenses_of(cli)
    assert first["customer_id"] == "=1+1"
    assert (first["email"], first["product"], first["edition"]) == ("ann@example.com", "Planwerk", "pro")
    assert (first["max_devices"], first["expires_at"]) == (5, "2030-01-31T23:59:59Z")
    assert (first["is_test"], first["floating"], first["is_active"]) == (True, True, True)
    assert (first["features"], first["metadata"]) == (["export", "api"], {"n": 1})
    assert first["license_key"] == "old-key 0001"
    assert (second["features"], second["is_active"]) == (["a;b", "c"], False)
    assert second["expires_at"] == "2020-06-30T10:00:00Z"
    assert second["license_key"].startswith("LIC-")
    assert (third["email"], third["product"], third["license_key"]) == ("bob@example.com", "Plan\nwerk", "=legacy")


def test_what_was_exported_comes_in_again_elsewhere(cli: CommandLine, second: Database, tmp_path: Path) -> None:
    cli("licenses", "import", "-", stdin=FULL.encode())
    file = tmp_path / "licences.csv"
    assert cli("licenses", "export", str(file), "--json").json == {"exported": 3, "file": str(file)}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = licenses_of(cli)
    cli.use(second)
    assert cli("licenses", "import", str(file), "--json").json["imported"] == 3
    own = {"license_id": None, "created_at": None}
    assert [one | own for one in licenses_of(cli)] == [one | own for one in before]


def test_formulas_leave_as_text(cli: CommandLine) -> None:
    for customer in ("=1+1", "+1", "-1", "@x", "'=x"):
        cli("licenses", "create", "--customer", customer)
    exported = list(csv.DictReader(io.StringIO(cli("licenses", "export", "-").out)))
    assert {row["customer_id"] for row in exported} == {"'=1+1", "'+1", "'-1", "'@x", "''=x"}


@given(st.text())
def test_a_cell_survives_its_escaping(text: str) -> None:
    written = write_cell(text)
    assert read_cell(written) == text
    assert not written.startswith(("=", "+", "-", "@", "\t", "\r"))


async def test_keys_of_another_server_keep_working(cli: CommandLine, client: Client) -> None:
    file = b"customer_id,max_devices,license_key\nacme,1,{8F2A-legacy#77}\n"
    assert (await asyncio.to_thread(cli, "licenses", "import", "-", stdin=file)).code == 0
    brought = {"license_key": "{8f2a-LEGACY#77}"}
    assert (await client.activate(brought, "laptop")).status == 201
    assert (await client.validate(brought, "laptop")).status == 200


def test_a_repeat_imports_nothing(cli: CommandLine) -> None:
    assert cli("licenses", "import", "-", "--json", stdin=FULL.encode()).json["imported"] == 3
    again = cli("licenses", "import", "-", "--json", stdin=FULL.encode()).json
    assert (again["imported"], again["skipped"], again["licenses"]) == (0, 3, [])
    assert cli("licenses", "import", "-", stdin=FULL.encode()).err == "imported 0, skipped 3 that there were already\n"
    assert len(licenses_of(cli)) == 3


def test_an_import_that_was_cut_short_goes_on_where_it_was(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    file = b"customer_id\n" + b"".join(b"C-%d\n" % number for number in range(5))
    carry_out, calls = Workbench.execute, 0

    async def fails_at_the_second(bench: Workbench, order: Order) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ServiceUnavailable
        await carry_out(bench, order)

    monkeypatch.setattr(import_csv, "CHUNK", 2)
    monkeypatch.setattr(Workbench, "execute", fails_at_the_second)
    cut = cli("licenses", "import", "-", stdin=file)
    assert cut.code == 1
    assert "stopped before line 4, with 2 imported and 0 skipped" in cut.err
    assert len(licenses_of(cli)) == 2

    rest = cli("licenses", "import", "-", "--json", stdin=file).json
    assert (rest["imported"], rest["skipped"]) == (3, 2)
    assert [one["customer_id"] for one in licenses_of(cli)] == [f"C-{number}" for number in range(5)]


@pytest.mark.parametrize(
    "file, why",
    [
        ("customer_id,max_devices\na,1\nb,0\n", "line 3, column max_devices: "),
        ("customer_id,max_devices\na,1\nb,two\nc,x\n", "line 3, column max_devices: must be a whole number (1 more"),
        ('customer_id,metadata\n"a\nb","{}"\n', "line 2, column customer_id: "),
        ('customer_id,product,metadata\na,"x\ny",{}\nb,,[1]\n', "line 4, column metadata: must be a JSON object"),
        ("customer_id,expires_at\na,31.12.2027\n", "line 2, column expires_at: must be a time such as"),
        (
            "customer_id,expires_at\na,2027-12-31T10:00:00\n",
            "line 2, column expires_at: expected RFC 3339 time with",
        ),
        ("customer_id,is_test\na,maybe\n", "line 2, column is_test: must be true or false"),
        ("customer_id,email\na,nobody\n", "line 2, column email: "),
        ("customer_id,email\n,\n,x@example.com\n, \n", "line 4, column customer_id: a customer_id or an email"),
        ("customer_id,license_key\na,K 1\nb,k1\n", "line 3, column license_key: the same key is in line 2"),
        ("customer_id,license_key\na,%s\n" % ("k" * 257), "line 2, column license_key: "),
        ("customer_id,product\na\n", "line 2, column product: the row has 1 cells, the header 2"),
        ("customer_id,colour\na,red\n", "line 1: 'colour' is no column"),
        ("customer_id,customer_id\na,b\n", "line 1: the column customer_id comes twice"),
        ("product\nx\n", "line 1: a column customer_id or email is needed"),
        ("", "line 1: a column customer_id or email is needed"),
        ('customer_id\n"a\n', "this is no CSV"),
        ("customer_id,product\na,x\0y\n", "line 2, column product: must not contain NUL"),
    ],
)
def test_a_bad_file_is_refused_whole_by_line_and_column(bare: CommandLine, tmp_path: Path, file: str, why: str) -> None:
    refused = bare("licenses", "import", "-", stdin=file.encode())
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("error: stdin ")
    assert why in refused.err
    assert refused.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []  # nothing was even opened


def test_a_file_in_another_encoding_is_refused_by_line(bare: CommandLine) -> None:
    refused = bare("licenses", "import", "-", stdin="customer_id\na\nMüller\n".encode("latin-1"))
    assert "line 3: this is no UTF-8" in refused.err


def test_a_missing_file_is_named(bare: CommandLine) -> None:
    assert bare("licenses", "import", "nowhere.csv").err == "error: nowhere.csv: No such file or directory\n"


def test_an_export_that_fails_leaves_no_file(cli: CommandLine, tmp_path: Path) -> None:
    refused = cli("licenses", "export", str(tmp_path / "no-such-folder" / "x.csv"))
    assert refused.code == 1
    assert refused.err.count("\n") == 1
