"""Events of a newer program: nothing is decided on the part of a history that this program can read."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from commands.event_mapper import UnknownFact
from infra.postgres import Database
from tests.support.orders import activate, carry_out, issue, running_writer

_FROM_THE_FUTURE = """
    INSERT INTO lizenzserver.licensing_events (originator_id, originator_version, topic, state)
    SELECT originator_id, originator_version + 1, 'license.unheard-of', state
    FROM lizenzserver.licensing_events WHERE originator_id = %s AND originator_version = 2
"""


def write_event_of_a_newer_program(database: Database, license_id: UUID) -> None:
    with database.connect_owner() as connection:
        connection.execute(_FROM_THE_FUTURE, (license_id,))


def kinds(results: list[Any]) -> list[type]:
    return [type(result) for result in results]


async def test_every_order_on_such_a_licence_is_stopped(database: Database) -> None:
    license_id = uuid4()
    repeat = activate(license_id, "pc-1")
    async with running_writer(database) as remembers:
        await carry_out(remembers, issue(license_id), activate(license_id, "pc-1"))
        write_event_of_a_newer_program(database, license_id)
        assert kinds(await carry_out(remembers, repeat, repeat)) == [UnknownFact, UnknownFact]
    async with running_writer(database) as reads:
        assert kinds(await carry_out(reads, repeat, repeat)) == [UnknownFact, UnknownFact]


async def test_orders_on_other_licences_are_carried_out(database: Database) -> None:
    license_id, other_id = uuid4(), uuid4()
    async with running_writer(database) as writer:
        await carry_out(writer, issue(license_id), activate(license_id, "pc-1"))
        write_event_of_a_newer_program(database, license_id)
        assert kinds(await carry_out(writer, issue(other_id), activate(other_id, "pc-1"))) == [bytes, bytes]
