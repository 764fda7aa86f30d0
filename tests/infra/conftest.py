"""Tools and keys that the tests of infra share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.keyring import Keyring

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str], str]:
    """Give the path of a program; without it fail under CI, else skip and say so."""

    def path_of(name: str) -> str:
        path = shutil.which(name)
        if path is not None:
            return path
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not on the path, and under CI nothing is skipped")
        pytest.skip(f"{name} is not on the path")

    return path_of


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture(scope="session")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    """Give a keyring that no test changes."""
    folder: Path = tmp_path_factory.mktemp("keys")
    return Keyring.open(folder, None, None)
