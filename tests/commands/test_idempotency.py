"""Idempotency keys: the first answer is kept with the events it tells of, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from commands.batch import Outcome, Replay, Submission
from domain.errors import AlreadyActivated, DeviceLimitExceeded
from infra.postgres import Database
from tests.support.invariants import check_invariants
from tests.support.orders import activate, carry_out, deactivate, issue, revoke, running_writer, submitted


async def test_the_answer_is_sealed_in_the_transaction_of_its_events(database: Database) -> None:
    async with running_writer(database) as writer:
        license_id = uuid4()
        await carry_out(writer, issue(license_id))
        answer = await writer.execute(submitted(activate(license_id, "pc-1"), idempotency_key="k", body="b"))
        assert isinstance(answer, bytes)
        with database.connect() as connection:
            (kept,) = connection.execute(
                "SELECT xmin::text AS transaction, scope_hash, body_hash, answer_sealed FROM idempotency"
            ).fetchall()
            row = connection.execute(
                "SELECT xmin::text AS transaction FROM licensing_events ORDER BY notification_id DESC LIMIT 1"
            ).fetchone()
        assert row is not None
        assert kept == {
            "transaction": row["transaction"],
            "scope_hash": hashlib.sha256(b"k").digest(),
            "body_hash": hashlib.sha256(b"b").digest(),
            "answer_sealed": b"sealed:" + answer,
        }


async def test_repeats_get_the_first_answer_and_make_no_event(database: Database) -> None:
    async with running_writer(database) as writer:
        license_id = uuid4()
        await carry_out(writer, issue(license_id, max_devices=9))
        first = await writer.execute(submitted(activate(license_id, "pc-1"), idempotency_key="k", body="b"))
        await carry_out(writer, activate(license_id, "pc-2"))
        for body in ("b", "another"):
            again = await writer.execute(submitted(activate(license_id, "pc-1"), idempotency_key="k", body=body))
            # Whoever asked compares the bodies: the writer gives the first one's hash.
            assert again == Replay(hashlib.sha256(b"b").digest(), b"sealed:" + bytes(first))  # type: ignore[arg-type]
        assert len(check_invariants(database)) == 3


async def test_repeats_in_the_same_batch_do_too(database: Database) -> None:
    async with running_writer(database) as writer:
        license_id = uuid4()
        await carry_out(writer, issue(license_id))
        first, *rest = await asyncio.gather(
            *(writer.execute(submitted(activate(license_id, "pc-1"), idempotency_key="k")) for _ in range(50))
        )
        assert isinstance(first, bytes)
        assert all(isinstance(one, Replay) and one.answer_sealed == b"sealed:" + first for one in rest)
        assert len(check_invariants(database)) == 2


async def test_a_refusal_is_not_kept(database: Database) -> None:
    async with running_writer(database) as writer:
        license_id = uuid4()
        await carry_out(writer, issue(license_id, max_devices=1), activate(license_id, "pc-1"))
        with pytest.raises(DeviceLimitExceeded):
            await writer.execute(submitted(activate(license_id, "pc-2"), idempotency_key="k"))
        await carry_out(writer, deactivate(license_id, "pc-1"))
        assert isinstance(await writer.execute(submitted(activate(license_id, "pc-2"), idempotency_key="k")), bytes)


async def test_an_answer_without_events_is_kept_too(database: Database) -> None:
    async with running_writer(database) as writer:
        license_id = uuid4()
        await carry_out(writer, issue(license_id), revoke(license_id))
        assert isinstance(await writer.execute(submitted(revoke(license_id), idempotency_key="k")), bytes)
        assert isinstance(await writer.execute(submitted(revoke(license_id), idempotency_key="k")), Replay)
        assert len(check_invariants(database)) == 2


async def test_nothing_is_kept_of_an_order_that_fails(database: Database) -> None:
    async with running_writer(database) as writer:
        license_id = uuid4()
        await carry_out(writer, issue(license_id))
        keep = submitted(activate(license_id, "pc-1"), idempotency_key="k").idempotency

        def broken(_: Outcome, __: Any) -> bytes:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await writer.execute(Submission(activate(license_id, "pc-1"), broken, needs_views=True, idempotency=keep))
        assert isinstance(await writer.execute(submitted(activate(license_id, "pc-1"), idempotency_key="k")), bytes)


@pytest.mark.parametrize("longer", [timedelta(0), timedelta(seconds=1)])
async def test_a_key_may_be_used_again_after_24_hours(database: Database, longer: timedelta) -> None:
    async with running_writer(database) as writer:
        license_id = uuid4()
        second = activate(license_id, "pc-1")
        old = replace(issue(license_id), now=second.now - timedelta(hours=24) - longer)
        await writer.execute(submitted(old, idempotency_key="k"))
        assert isinstance(await writer.execute(submitted(second, idempotency_key="k")), bytes)
        (refused,) = await carry_out(writer, activate(license_id, "pc-1"))
        assert isinstance(refused, AlreadyActivated)
        assert isinstance(await writer.execute(submitted(activate(license_id, "pc-1"), idempotency_key="k")), Replay)


async def test_a_key_may_not_be_used_again_before(database: Database) -> None:
    async with running_writer(database) as writer:
        license_id = uuid4()
        second = activate(license_id, "pc-1")
        earlier = replace(issue(license_id), now=second.now - timedelta(hours=24) + timedelta(microseconds=1))
        await writer.execute(submitted(earlier, idempotency_key="k"))
        again = await writer.execute(submitted(second, idempotency_key="k"))
        assert isinstance(again, Replay)
