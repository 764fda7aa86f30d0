"""A server that hangs: callers are told in bounded time, and their idempotency keys resolve what became of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from api import late_checks
from commands import writer as writers
from domain.errors import ServiceUnavailable
from infra.postgres import Database
from tests.support.invariants import check_invariants
from tests.support.orders import activate, carry_out, issue, running_writer, submitted
from tests.support.service import running, settings_for
from tests.support.within import within

_OTHERS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@contextmanager
def hanging(database: Database) -> Iterator[None]:
    with database.connect_owner() as connection:
        pids = [row["pid"] for row in connection.execute(_OTHERS)]
    _send(signal.SIGSTOP, pids)
    try:
        yield
    finally:
        _send(signal.SIGCONT, pids)


def _send(number: signal.Signals, pids: list[int]) -> None:
    for pid in pids:
        # Autovacuum comes to any database, and goes again.
        with suppress(ProcessLookupError):
            os.kill(pid, number)


async def test_an_order_is_answered_in_bounded_time(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_writer(database) as writer:
        license_id = uuid4()
        await carry_out(writer, issue(license_id))
        order = activate(license_id, "pc-1")
        with hanging(database), monkeypatch.context() as patched:
            patched.setattr(writers, "OUTCOME_SECONDS", 0.2)
            async with asyncio.timeout(30):
                with pytest.raises(ServiceUnavailable):
                    await writer.execute(submitted(order, idempotency_key="k"))
        again: Any = await writer.execute(submitted(order, idempotency_key="k"))
        assert again.answer_sealed == b'sealed:{"max_devices": 3, "current_devices": 1}'
    assert len(check_invariants(database)) == 2


async def test_a_validation_is_answered_from_memory(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_checks, "LATE_SECONDS", 0.1)
    async with running(settings_for(tmp_path), database) as (_, client):
        license = await client.new_license()
        assert (await client.activate(license, "pc-1")).status == 201
        assert (await client.validate(license, "pc-1")).status == 200
        with hanging(database):
            async with within(2), asyncio.timeout(30):
                assert (await client.validate(license, "pc-1")).status == 200
