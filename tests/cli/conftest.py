"""The command line in the test's own process: arguments in; exit code, stdout and stderr out."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import AsyncIterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from api.services import Services
from cli.main import run
from infra import logs
from infra.postgres import Database
from tests.support.client import Client, Secrets
from tests.support.patience import running_patiently
from tests.support.service import settings_for


@dataclass(frozen=True, slots=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


class CommandLine:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Result:
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True), io.StringIO()
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
            run(arguments)
        code = left.value.code
        assert isinstance(code, int)
        out.seek(0)
        return Result(code, out.read(), err.getvalue())

    def use(self, database: Database) -> None:
        """Work on this database from now on."""
        self._monkeypatch.setenv("DATABASE_URL", database.url)


@pytest.fixture
async def service(database: Database, tmp_path: Path) -> AsyncIterator[tuple[Services, Client]]:
    """A service that commands run beside: its logs tell all that it has answered, however busy the machine is."""
    async with running_patiently(settings_for(tmp_path), database) as parts:
        yield parts


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line in an empty data folder."""
    monkeypatch.chdir(tmp_path)  # where no .env is
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ADMIN_API_KEY", Secrets().admin_api_key)
    monkeypatch.setattr(logs, "configure", lambda *_: None)  # pytest has its own log
    return CommandLine(monkeypatch)


@pytest.fixture
def cli(bare: CommandLine, database: Database) -> CommandLine:
    """The command line on the test's database, with the keys and credentials of the test's service."""
    bare.use(database)
    return bare
