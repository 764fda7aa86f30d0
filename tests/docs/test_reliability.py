"""Each test that docs/reliability.md names is there, under that name: a promise without a test is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"

_NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
_ROW = re.compile(r"^\| (?!What happens|---)(.+) \|$", re.MULTILINE)


def named() -> list[tuple[str, str]]:
    return sorted(set(_NAMED.findall(PAGE.read_text("utf-8"))))


@pytest.mark.parametrize("path, name", named())
def test_a_named_test_is_there(path: str, name: str) -> None:
    code = (ROOT / path).read_text("utf-8")
    assert re.search(rf"^(async )?def {name}\(", code, re.MULTILINE) or not name


def test_each_promise_names_a_test() -> None:
    _, _, promises = PAGE.read_text("utf-8").partition("\n## Promises\n")
    rows = _ROW.findall(promises.split("\n## ")[0])
    assert len(rows) > 20
    assert [row for row in rows if not re.search(r"\.py::", row.rpartition(" | ")[2])] == []
