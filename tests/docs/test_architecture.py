"""What the documentation says is where is there, and no table of the database is left out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.postgres import SCHEMA, Database

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FOLDERS = ("api", "cli", "commands", "docs", "domain", "infra", "projections", "tests", "workers")
PAGES = [DOCS / "architecture.md", *sorted((DOCS / "decisions").glob("*.md"))]

_TABLES = """
    SELECT relname FROM pg_class
    WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
"""


def paths(page: Path) -> set[str]:
    return set(re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./*]*)`", page.read_text("utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_and_folders_are_there(page: Path) -> None:
    assert [path for path in paths(page) if not any(ROOT.glob(path))] == []


def test_each_table_is_described(database: Database) -> None:
    with database.connect_owner() as connection:
        tables = {row["relname"] for row in connection.execute(_TABLES, (SCHEMA,)).fetchall()}
    _, _, section = (DOCS / "architecture.md").read_text("utf-8").partition("## Tables\n")
    first_cells = re.findall(r"^\| (`[^|]+) \|", section.split("\n## ")[0], flags=re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(first_cells))) == tables


def test_each_table_has_its_rights_described(database: Database) -> None:
    with database.connect_owner() as connection:
        tables = {row["relname"] for row in connection.execute(_TABLES, (SCHEMA,)).fetchall()}
    _, _, section = (DOCS / "configuration.md").read_text("utf-8").partition("| Table | Rights |\n")
    assert tables <= set(re.findall(r"`(\w+)`", section.split("\n\n")[0]))
