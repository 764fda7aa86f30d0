"""Credentials of the first start: made once, whoever starts, and readable by nobody else."""

from __future__ import annotations

import stat
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from infra.first_start import Credentials, ensure_credentials
from infra.settings import SettingsError, load_settings
from tests.support.power_cut import Disk

NAMES = ("admin_api_key", "admin_secret", "client_token", "admin_token")


def ensure(data_dir: Path, **environ: str) -> Credentials:
    return ensure_credentials(load_settings(environ, None), data_dir)


def texts(credentials: Credentials) -> list[str]:
    return [getattr(credentials, name).reveal() for name in NAMES]


def race(data_dir: Path) -> tuple[list[str], frozenset[str]]:
    credentials = ensure(data_dir)
    return texts(credentials), credentials.fresh


def test_the_first_start_makes_them_and_the_second_finds_them(tmp_path: Path) -> None:
    first, second = ensure(tmp_path / "var"), ensure(tmp_path / "var")
    assert first.fresh == set(NAMES)
    assert second.fresh == set()
    assert texts(first) == texts(second)
    assert [text[:4] for text in texts(first)] == ["adm_", "ads_", "clt_", "adt_"]
    assert all(len(text) == 47 for text in texts(first))
    assert not any(text in repr(first) for text in texts(first))


def test_settings_go_before_files_and_leave_none(tmp_path: Path) -> None:
    ensure(tmp_path)
    chosen = ensure(tmp_path, ADMIN_SECRET="chosen")
    assert chosen.admin_secret.reveal() == "chosen"
    other = ensure(tmp_path / "other", ADMIN_SECRET="chosen")
    assert other.fresh == {"admin_api_key", "client_token", "admin_token"}
    assert not (tmp_path / "other" / "credentials" / "ADMIN_SECRET").exists()


def test_only_the_owner_can_read_them(tmp_path: Path) -> None:
    ensure(tmp_path)
    folder = tmp_path / "credentials"
    folder.chmod(0o755)
    ensure(tmp_path)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(file.name for file in folder.iterdir()) == sorted(name.upper() for name in NAMES)
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_what_was_shown_once_survives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    ensure(tmp_path)
    files = sorted((tmp_path / "credentials").iterdir())
    assert [disk.left_of(file) for file in files] == [file.read_bytes() for file in files]
    assert len(files) == len(NAMES)
    assert not disk.hasty


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        outcomes = list(pool.map(race, [tmp_path] * 8))
    assert len({tuple(found) for found, _ in outcomes}) == 1
    assert sorted(name for _, fresh in outcomes for name in fresh) == sorted(NAMES)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    ensure(tmp_path)
    (tmp_path / "credentials" / "ADMIN_TOKEN").write_text("\n")
    with pytest.raises(SettingsError, match=r"ADMIN_TOKEN: .* is empty"):
        ensure(tmp_path)
