"""docs/security.md names tests that there are, and leaves out none of those that attack."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
NAMED = re.findall(r"\[`([\w.]+)`\]\(\.\./(tests/[\w/]+\.py)\)", PAGE)
ROWS = [
    line
    for line in PAGE.partition("## Threats")[2].partition("## What it does not")[0].splitlines()
    if line[:2] == "| "
]


@pytest.mark.parametrize("name,path", sorted(set(NAMED)))
def test_each_test_that_it_names_is_there(name: str, path: str) -> None:
    if name.endswith(".py"):
        assert Path(path).name == name
    else:
        assert re.search(rf"^ *(async )?def {name}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE)


def test_each_threat_has_a_test() -> None:
    told = [row for row in ROWS if not row.startswith(("| Attempt |", "| Got |", "|---"))]

    assert len(told) > 20
    assert [row for row in told if "](../tests/" not in row.rpartition(" | ")[2]] == []


def test_each_file_that_attacks_is_named() -> None:
    attacking = {f"tests/security/{path.name}" for path in (ROOT / "tests" / "security").glob("test_*.py")}

    assert attacking - {path for _, path in NAMED} == set()
