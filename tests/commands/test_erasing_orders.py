"""Orders that meet an erasure: nothing is stored that is sealed under a key which nobody has, in whatever order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from commands.batch import Idempotency, Submission
from commands.orders import EraseCustomer, IssueLicenses, LicenseToIssue, Order, SubjectToErase
from commands.recorder import OrderOutdated
from commands.writer import GroupCommitWriter
from domain.data_subject import DataSubject
from domain.issuing import Terms
from infra.postgres import Database
from tests.support.orders import activate, carry_out, cause, limits, now, running_writer

SEALED = {"device_name": b"sealed"}


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[GroupCommitWriter]:
    async with running_writer(database) as running:
        yield running


def subject(database: Database) -> UUID:
    """Make a data subject."""
    subject_id = uuid4()
    with database.connect() as connection:
        connection.execute("INSERT INTO data_subjects VALUES (%s, %s, %s)", (subject_id, subject_id.bytes, b"wrapped"))
    return subject_id


def issued(subject_id: UUID, license_id: UUID) -> IssueLicenses:
    terms = Terms(
        key_digest=license_id.bytes, key_sealed=b"key", max_devices=9, sealed={"customer_id": b"c", "email": b"e"}
    )
    new = LicenseToIssue(license_id=license_id, subject_id=subject_id, terms=terms)
    return IssueLicenses(cause=cause(), now=now(), licenses=(new,))


def erased(kept_under: UUID, subject_id: UUID, *license_ids: UUID) -> EraseCustomer:
    subjects = (SubjectToErase(subject_id=subject_id, license_ids=license_ids),)
    sealed = {"reason": b"why"}
    return EraseCustomer(cause=cause(), now=now(), subjects=subjects, kept_under=kept_under, sealed=sealed)


def plain(license_id: UUID) -> Order:
    return activate(license_id, f"plain-{uuid4()}")


def personal(license_id: UUID) -> Order:
    return activate(license_id, f"named-{uuid4()}", sealed=SEALED)


def addressed(license_id: UUID) -> Order:
    order = activate(license_id, f"addressed-{uuid4()}")
    return replace(order, cause=msgspec.structs.replace(order.cause, sealed_address=b"sealed"))


def log_of(database: Database) -> list[tuple[str, UUID]]:
    with database.connect() as connection:
        rows = connection.execute("SELECT topic, originator_id FROM licensing_events ORDER BY 1, 2").fetchall()
    return [(row["topic"], row["originator_id"]) for row in rows]


@pytest.mark.parametrize("order", [personal, addressed])
async def test_what_was_sealed_before_is_refused_after(
    writer: GroupCommitWriter, database: Database, order: Any
) -> None:
    license_id, person, kept = uuid4(), subject(database), subject(database)
    done = await carry_out(writer, issued(person, license_id), order(license_id), erased(kept, person, license_id))
    assert [type(one) for one in done] == [bytes] * 3
    refused, let_through = await carry_out(writer, order(license_id), plain(license_id))
    assert isinstance(refused, OrderOutdated)
    assert refused.erased == {person}
    assert isinstance(let_through, bytes)


async def test_within_one_transaction_too(writer: GroupCommitWriter, database: Database) -> None:
    license_id, person, kept = uuid4(), subject(database), subject(database)
    await carry_out(writer, issued(person, license_id))
    orders = (
        plain(license_id),
        personal(license_id),
        erased(kept, person, license_id),
        personal(license_id),
        plain(license_id),
    )
    done = await asyncio.gather(
        *(writer.execute(Submission(order, limits)) for order in orders), return_exceptions=True
    )
    assert [type(one) for one in done] == [bytes, bytes, bytes, OrderOutdated, bytes]


async def test_an_erasure_names_all_licences_or_begins_anew(writer: GroupCommitWriter, database: Database) -> None:
    first, second, person, kept = uuid4(), uuid4(), subject(database), subject(database)
    done = await carry_out(writer, issued(person, first), issued(person, second), erased(kept, person, first))
    assert isinstance(done[2], OrderOutdated)
    with database.connect() as connection:
        row = connection.execute("SELECT wrapped_key FROM data_subjects WHERE subject_id = %s", (person,)).fetchone()
    assert row == {"wrapped_key": b"wrapped"}, "all or nothing"
    (done,) = await carry_out(writer, erased(kept, person, first, second))
    assert isinstance(done, bytes)


async def test_a_licence_is_not_issued_to_whoever_was_erased(writer: GroupCommitWriter, database: Database) -> None:
    person, kept = subject(database), subject(database)
    done = await carry_out(writer, erased(kept, person), issued(person, uuid4()))
    assert isinstance(done[1], OrderOutdated)
    assert log_of(database) == [("customer.erased", person)]


async def test_two_at_once_are_one_erasure_on_two_processes(database: Database) -> None:
    license_id, person, kept = uuid4(), subject(database), subject(database)
    async with running_writer(database) as one, running_writer(database) as two:
        await carry_out(one, issued(person, license_id))
        states: list[DataSubject] = []

        def note(outcome: Any, _: object) -> bytes:
            states.extend(outcome.states)
            return b""

        orders = [Submission(erased(kept, person, license_id), note) for _ in range(4)]
        await asyncio.gather(
            *(writer.execute(order) for writer, order in zip((one, two, one, two), orders, strict=True))
        )
    assert log_of(database).count(("customer.erased", person)) == 1
    assert {state.version for state in states} == {1}


async def test_an_answer_that_shows_whoever_was_erased_is_not_kept(
    writer: GroupCommitWriter, database: Database
) -> None:
    """Also of an order that changes nothing, which has no event to be refused."""
    license_id, person, kept = uuid4(), subject(database), subject(database)
    await carry_out(writer, issued(person, license_id), erased(kept, person, license_id))
    keep = Idempotency(b"scope", b"body", lambda answer: b"sealed:" + answer)
    repeat = activate(license_id, "pc", repeatable=True)
    await carry_out(writer, repeat)
    with pytest.raises(OrderOutdated):
        await writer.execute(Submission(repeat, limits, idempotency=keep, shows=(person,)))
    assert isinstance(await writer.execute(Submission(repeat, limits, idempotency=keep)), bytes)


async def test_an_answer_kept_anew_a_day_later_shows_whom_it_shows_then(
    writer: GroupCommitWriter, database: Database
) -> None:
    license_id, first, second, kept = uuid4(), subject(database), subject(database), subject(database)
    await carry_out(writer, issued(first, license_id))
    keep = Idempotency(b"scope", b"body", lambda answer: b"sealed:" + answer)
    yesterday = replace(activate(license_id, "pc", repeatable=True), now=now() - timedelta(hours=25))
    await writer.execute(Submission(yesterday, limits, idempotency=keep, shows=(first,)))
    today = activate(license_id, "pc", repeatable=True)
    await writer.execute(Submission(today, limits, idempotency=keep, shows=(second,)))

    def answer() -> bytes:
        with database.connect() as connection:
            row = connection.execute("SELECT answer_sealed FROM idempotency").fetchone()
        assert row is not None
        return bytes(row["answer_sealed"])

    await carry_out(writer, erased(kept, first, license_id))
    assert answer().startswith(b"sealed:"), "it shows somebody else by now"
    await carry_out(writer, erased(kept, second))
    assert answer() == b""
