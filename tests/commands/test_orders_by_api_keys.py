"""Orders by an API key: it must be good when they are decided, whichever process ended it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from commands.application import LicensingApplication
from commands.batch import Replay, Submission
from commands.writer import GroupCommitWriter
from domain.errors import Unauthorized
from infra.postgres import Database
from projections.inline_views import InlineViews
from tests.support.invariants import check_invariants
from tests.support.orders import (
    PlainEmails,
    activate,
    carry_out,
    create_api_key,
    issue,
    revoke_api_key,
    running_writer,
    submitted,
)


def carry_out_together(application: LicensingApplication, database: Database, *batches: list[Submission]) -> list[Any]:
    """Have the orders of each batch decided together, in this thread; return the last one's answers."""
    # Which orders meet in a batch is the thread's luck otherwise.
    with database.connect() as connection:
        writer = GroupCommitWriter(application, lambda: connection, database.connect_login)
        return [writer._process(batch) for batch in batches][-1]


def by_key(key_id: UUID, submission: Submission) -> Submission:
    return replace(submission, api_key_id=key_id)


async def test_a_key_that_another_process_revoked_orders_nothing(database: Database) -> None:
    license_id, key_id = uuid4(), uuid4()
    async with running_writer(database) as one, running_writer(database) as other:
        await carry_out(one, issue(license_id), create_api_key(key_id))
        await other.execute(by_key(key_id, submitted(activate(license_id, "pc-1"))))
        await carry_out(one, revoke_api_key(key_id))
        with pytest.raises(Unauthorized):
            await other.execute(by_key(key_id, submitted(activate(license_id, "pc-2"))))
    assert [event.fact.stored_name for _, event in check_invariants(database)].count("license.activated") == 1


async def test_a_revoked_key_does_not_get_an_answer_again(database: Database) -> None:
    license_id, key_id = uuid4(), uuid4()
    async with running_writer(database) as writer:
        await carry_out(writer, issue(license_id), create_api_key(key_id))
        order = by_key(key_id, submitted(activate(license_id, "pc-1"), idempotency_key="k"))
        await writer.execute(order)
        assert isinstance(await writer.execute(order), Replay)
        await carry_out(writer, revoke_api_key(key_id))
        with pytest.raises(Unauthorized):
            await writer.execute(order)


async def test_a_key_that_never_was_orders_nothing(database: Database) -> None:
    license_id = uuid4()
    async with running_writer(database) as writer:
        await carry_out(writer, issue(license_id))
        for stranger in (uuid4(), license_id):
            with pytest.raises(Unauthorized):
                await writer.execute(by_key(stranger, submitted(activate(license_id, "pc-1"))))


def test_a_key_that_an_order_before_it_revoked_orders_nothing_in_one_batch(database: Database) -> None:
    """Or history would show what a key did after its end."""
    license_id, key_id = uuid4(), uuid4()
    application = LicensingApplication(database.conninfo("lizenzserver-log"), InlineViews(PlainEmails()))
    made = [submitted(issue(license_id)), submitted(create_api_key(key_id))]
    mixed = [
        by_key(key_id, submitted(activate(license_id, "pc-1"))),
        submitted(revoke_api_key(key_id)),
        by_key(key_id, submitted(activate(license_id, "pc-2"))),
    ]
    try:
        before, _, after = carry_out_together(application, database, made, mixed)
    finally:
        application.close()
    assert isinstance(before, bytes)
    assert isinstance(after, Unauthorized)
