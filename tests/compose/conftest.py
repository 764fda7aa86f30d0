"""A folder of secrets, as the script makes it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.compose.files import MAKE_SECRETS


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compose")
    subprocess.run([str(MAKE_SECRETS)], cwd=folder, check=True, capture_output=True, timeout=60)
    return folder / "secrets"
