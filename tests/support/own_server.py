"""A PostgreSQL of somebody's own, made ready for the service by what docs/configuration.md says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from infra.embedded_postgres import EmbeddedPostgres

ROOT = Path(__file__).parents[2]


@contextmanager
def own_server() -> Iterator[tuple[EmbeddedPostgres, dict[str, str]]]:
    """Give a server of somebody's own, made ready as docs/configuration.md says, and the two settings for it."""
    with TemporaryDirectory(prefix="lizenzserver-own-") as folder:
        server = EmbeddedPostgres(Path(folder))
        server.start()
        try:
            page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
            (statements,) = re.findall(r"```sql\n(CREATE ROLE lizenzserver_service.*?)```", page, re.DOTALL)
            with psycopg.connect(server.url(), autocommit=True) as connection:
                for statement in statements.strip().split(";")[:-1]:
                    connection.execute(statement)
            names = {"DATABASE_URL": "licensing_app", "DATABASE_OWNER_URL": "licensing_owner"}
            yield server, {name: server.url(login, "licensing") for name, login in names.items()}
        finally:
            server.stop()
