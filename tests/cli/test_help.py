"""What the command line says of itself, and how it refuses."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from infra.postgres import Database
from infra.settings import SETTINGS
from tests.cli.conftest import CommandLine
from tests.support.cluster import Cluster

COMMANDS = (
    ("serve",),
    ("migrate",),
    ("demo",),
    ("keys", "list"),
    ("keys", "rotate"),
    ("licenses", "create"),
    ("licenses", "list"),
    ("licenses", "show"),
    ("licenses", "import"),
    ("licenses", "export"),
    ("admins", "add"),
    ("admins", "list"),
    ("admins", "remove"),
    ("tail",),
    ("replay",),
    ("usage", "export"),
    ("licenses", "correct"),
    ("audit", "replay"),
    ("audit", "diff"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_teaches_by_example(bare: CommandLine, command: tuple[str, ...]) -> None:
    shown = bare(*command, "--help")
    assert shown.code == 0
    assert f"Examples:\n  lizenzserver {' '.join(command)}" in shown.out


@pytest.mark.parametrize("arguments", [("--help",), ("serve", "--help")], ids=" ".join)
def test_help_lists_all_settings_with_their_defaults(bare: CommandLine, arguments: tuple[str, ...]) -> None:
    shown = bare(*arguments).out
    for setting in SETTINGS:
        assert f"\n  {setting.name}" in shown
    assert "Port of the auth service [5001]" in shown


def test_the_version_is_the_package_s(bare: CommandLine) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    assert bare("--version").out == f"lizenzserver {project['version']}\n"


@pytest.mark.parametrize(
    "arguments",
    [("nope",), ("licenses", "list", "--limit", "0"), ("serve", "--service", "dns"), ("admins", "add")],
    ids=" ".join,
)
def test_wrong_usage_is_code_2(bare: CommandLine, arguments: tuple[str, ...]) -> None:
    refused = bare(*arguments)
    assert (refused.code, refused.out) == (2, "")


def one_line_error(cli: CommandLine, *arguments: str) -> str:
    refused = cli(*arguments)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("error: ")
    assert refused.err.count("\n") == 1
    return refused.err


def test_a_wrong_setting_is_named(bare: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTH_PORT", "many")
    assert "AUTH_PORT: 'many' is not a whole number" in one_line_error(bare, "keys", "list")


def test_a_database_that_is_not_there(bare: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://someone:hunter2@127.0.0.1:1/x")
    error = one_line_error(bare, "licenses", "list")
    assert "the database can't be reached" in error
    assert "hunter2" not in error


def test_a_database_without_the_schema(bare: CommandLine, cluster: Cluster) -> None:
    empty = cluster.new_database(migrated=False)
    bare.use(empty)
    try:
        assert "run `lizenzserver migrate` first" in one_line_error(bare, "licenses", "list")
        assert len(bare("migrate", "--json").json["applied"]) > 0
        assert bare("licenses", "list", "--json").json == {"licenses": [], "total": 0}
        assert bare("migrate", "--json").json["applied"] == []
    finally:
        cluster.drop(empty)


def test_a_database_newer_than_the_program(cli: CommandLine, database: Database) -> None:
    with database.connect_owner() as connection:
        connection.execute(
            "INSERT INTO lizenzserver.schema_migrations (number, name, checksum) VALUES (9999, '9999_x.sql', 'x')"
        )
    assert "9999" in one_line_error(cli, "migrate")


def test_a_migration_that_was_edited_after_it_had_been_applied(cli: CommandLine, database: Database) -> None:
    with database.connect_owner() as connection:
        connection.execute("UPDATE lizenzserver.schema_migrations SET checksum = 'x' WHERE number = 2")
    assert "0002_views.sql was edited" in one_line_error(cli, "migrate")


def test_a_database_of_another_service(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("licenses", "list").code == 0
    monkeypatch.setenv("SERVICE_KEY", "A" * 43)
    assert "another service key" in one_line_error(cli, "licenses", "list")
