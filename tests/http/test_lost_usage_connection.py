"""A usage connection that is lost under a request says nothing, and what waits at the end is stored all the same."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

from commands.usage_connection import USAGE_LOCK
from infra.postgres import Database
from tests.support.client import eventually
from tests.support.service import running, settings_for

_SESSIONS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE %s"


def sessions(database: Database, name: str) -> list[int]:
    with database.connect_owner() as connection:
        return [row["pid"] for row in connection.execute(_SESSIONS, (name,))]


async def test_a_revocation_is_seen_though_all_connections_are_cut(database: Database, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, USAGE_WAIT_MS="5000")
    async with running(settings, database) as (services, here):
        license = await here.new_license()
        assert (await here.activate(license, "pc-1")).status == 201
        assert (await here.validate(license, "pc-1")).status == 200
        cut = [*sessions(database, "lizenzserver-usage"), *sessions(database, "lizenzserver")]
        async with running(settings, database) as (_, there):
            assert (await there.admin("DELETE", f"/licenses/{license['license_id']}")).status == 200
        for pid in cut:
            with suppress(ProcessLookupError):  # One that nobody needs any more.
                os.kill(pid, signal.SIGSTOP)
        rounds = services.usage._number
        validation = asyncio.create_task(here.validate(license, "pc-1"))

        async def is_asked() -> bool:
            return services.usage._number > rounds

        await eventually(is_asked)
        for pid in cut:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
                os.kill(pid, signal.SIGCONT)
        assert (await validation)["error_code"] == "LICENSE_INACTIVE"


async def test_what_waits_to_be_stored_is_stored_before_the_service_ends(database: Database, tmp_path: Path) -> None:
    with database.connect() as other:
        async with running(settings_for(tmp_path), database) as (services, client):
            license = await client.new_license()
            await client.activate(license, "pc-1")
            other.execute("BEGIN")
            other.execute("SELECT pg_advisory_xact_lock(%s)", (USAGE_LOCK,))
            assert (await client.validate(license, "pc-1")).status == 200

            async def let_go() -> None:
                async def is_stopping() -> bool:
                    return services.usage._stopping

                await eventually(is_stopping)
                other.execute("COMMIT")

            letting_go = asyncio.create_task(let_go())
        await letting_go
        assert len(other.execute("SELECT FROM usage WHERE type = 'license.validated'").fetchall()) == 1
