"""A service whose logs tell all that it has answered, however busy the machine is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.services import Services
from infra.postgres import Database
from tests.support.client import Client
from tests.support.patience import running_patiently
from tests.support.service import settings_for


@pytest.fixture
async def service(database: Database, tmp_path: Path) -> AsyncIterator[tuple[Services, Client]]:
    async with running_patiently(settings_for(tmp_path), database) as parts:
        yield parts
