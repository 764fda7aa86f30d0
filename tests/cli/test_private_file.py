"""Files with keys or personal data: whole or not there, and their owner's alone."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from cli.errors import Failure
from cli.private_file import draft_of
from tests.support.power_cut import Disk


def test_it_is_there_when_all_went_well_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_text("old", encoding="ascii")
    path.chmod(0o666)
    with draft_of(path) as draft:
        draft.write_text("new", encoding="ascii")
        assert stat.S_IMODE(draft.stat().st_mode) == 0o600
        assert path.read_text(encoding="ascii") == "old"
    assert path.read_text(encoding="ascii") == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_text("old", encoding="ascii")
    with suppress(KeyError), draft_of(path) as draft:
        draft.write_bytes(b"half")
        raise KeyError
    assert path.read_text(encoding="ascii") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_its_content_is_on_the_disk_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    with draft_of(tmp_path / "export.csv") as draft:
        draft.write_bytes(b"all of it")
    assert not disk.hasty


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(Failure, match="is no file"), draft_of(path):
            pass
