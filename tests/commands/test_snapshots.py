"""Snapshots of licences: what is read from one on is what the whole log says, and nothing rests on their presence."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest

from commands import snapshots
from commands.application import LicensingApplication, fold
from commands.event_mapper import EventMapper
from commands.one_trip import Answer, Trip
from commands.orders import Order
from commands.snapshots import FORM, Snapshots, decode, encode
from domain.errors import DeviceNotFound
from domain.license import Activation, License
from infra.postgres import Database
from projections.inline_views import InlineViews
from tests.support.invariants import check_invariants
from tests.support.orders import (
    PlainEmails,
    activate,
    carry_out,
    create_api_key,
    deactivate,
    issue,
    revoke,
    running_writer,
    transfer,
    update,
)

EVERY = 8


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "EVERY", EVERY)


def rows(database: Database) -> dict[UUID, dict[str, Any]]:
    with database.connect() as connection:
        found = connection.execute("SELECT * FROM license_snapshots").fetchall()
    return {row["license_id"]: row for row in found}


@contextmanager
def counted_events(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Give a list that will hold, for each reading, the number of events read."""
    counts: list[int] = []
    take = Snapshots.take

    def counting(self: Snapshots, answer: Answer) -> Any:
        found = take(self, answer)
        counts.append(len(found[1]))
        return found

    with monkeypatch.context() as patched:
        patched.setattr(Snapshots, "take", counting)
        yield counts


def from_snapshot(database: Database, license_id: UUID) -> License:
    """Return the licence as the snapshot and the events after it give it."""
    known = Snapshots()
    with database.connect() as connection, Trip(connection, {}) as trip:
        asked = known.ask(trip, [license_id])
    found, events, _ = known.take(asked)
    state: License = fold(found[0] if found else None, map(EventMapper().to_domain_event, events))
    return state


def from_log(database: Database, license_id: UUID, version: int | None = None) -> License:
    """Return the licence as the library's repository folds it from the whole log."""
    application = LicensingApplication(database.conninfo("lizenzserver-log"), InlineViews(PlainEmails()))
    try:
        state = application.load(license_id, version)
    finally:
        application.close()
    assert isinstance(state, License)
    return state


def some_order(random: Random, license_id: UUID) -> Order:
    device, other = (f"pc-{random.randrange(12)}" for _ in range(2))
    end = datetime(2940, 1, 1, tzinfo=UTC) + timedelta(seconds=random.random())
    changes: list[dict[str, Any]] = [
        {"max_devices": random.randrange(3, 9)},
        {"features": ("a", "ü")},
        {"expires_at": end},
        {"edition": None},
    ]
    orders = [
        *[activate(license_id, device, name_tag=random.choice((None, b"tag")), repeatable=True)] * 6,
        *[deactivate(license_id, device)] * 3,
        transfer(license_id, device, other),
        update(license_id, **random.choice(changes)),
        revoke(license_id),
        update(license_id, is_active=True),
    ]
    return random.choice(orders)


@pytest.mark.parametrize("seed", range(4))
async def test_snapshot_and_tail_give_what_the_whole_log_gives(database: Database, seed: int) -> None:
    random = Random(seed)
    licenses = [uuid4() for _ in range(3)]
    snapshots_seen = 0
    for start in range(5):
        async with running_writer(database) as writer:
            if start == 0:
                await carry_out(writer, *(issue(license_id, max_devices=5) for license_id in licenses))
            orders = [some_order(random, random.choice(licenses)) for _ in range(40)]
            await asyncio.gather(*(carry_out(writer, order) for order in orders))
        written = rows(database)
        for license_id in licenses:
            assert from_snapshot(database, license_id) == from_log(database, license_id)
            if license_id in written:
                snapshots_seen += 1
                version = written[license_id]["version"]
                assert decode(written[license_id]["state"]) == from_log(database, license_id, version)
    assert snapshots_seen > 5
    check_invariants(database)


async def test_racing_writers_never_leave_a_snapshot_that_the_log_does_not_have(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "EVERY", 1)
    license_id = uuid4()
    async with running_writer(database) as one, running_writer(database) as other:
        await carry_out(one, issue(license_id, max_devices=500))

        async def client(number: int) -> None:
            await carry_out((one, other)[number % 2], *(activate(license_id, f"pc-{number}-{n}") for n in range(6)))

        for first in range(0, 80, 8):
            await asyncio.gather(*map(client, range(first, first + 8)))
            row = rows(database)[license_id]
            assert decode(row["state"]) == from_log(database, license_id, row["version"])
            # Whether any of them meet is the threads' luck.
            if first >= 16 and one.stats.conflicts + other.stats.conflicts:
                break
        assert one.stats.conflicts + other.stats.conflicts > 0
    assert from_snapshot(database, license_id) == from_log(database, license_id)


async def come_and_go(writer: Any, license_id: UUID, times: int) -> None:
    for _ in range(times):
        results = await carry_out(writer, activate(license_id, "pc-1"), deactivate(license_id, "pc-1"))
        assert [type(result) for result in results] == [bytes, bytes]


async def test_after_a_restart_only_what_follows_the_snapshot_is_read(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    license_id = uuid4()
    async with running_writer(database) as writer:
        await carry_out(writer, issue(license_id))
        await come_and_go(writer, license_id, 25)
    with counted_events(monkeypatch) as counts:
        async with running_writer(database) as writer:
            await come_and_go(writer, license_id, 1)
    assert len(counts) == 1
    assert counts[0] < EVERY


@pytest.mark.parametrize(
    "spoiled",
    [
        "DELETE FROM license_snapshots",
        "UPDATE license_snapshots SET form = form + 1",
        "UPDATE license_snapshots SET form = form - 1",
        "UPDATE license_snapshots SET state = '\\x00'",
        "UPDATE license_snapshots SET state = substr(state, 1, length(state) - 1)",
    ],
)
async def test_without_a_snapshot_that_can_be_read_all_is_as_before_and_a_new_one_is_made(
    database: Database, monkeypatch: pytest.MonkeyPatch, spoiled: str
) -> None:
    license_id, other_id = uuid4(), uuid4()
    async with running_writer(database) as writer:
        await carry_out(writer, issue(license_id), issue(other_id))
        await come_and_go(writer, license_id, 27)
        await carry_out(writer, activate(license_id, "pc-2"))
        await come_and_go(writer, other_id, 1)
    good = rows(database)
    assert [(one, row["version"]) for one, row in good.items()] == [(license_id, 56)]
    with database.connect() as connection:
        connection.execute(spoiled)
    with counted_events(monkeypatch) as counts:
        async with running_writer(database) as writer:
            refused, taken = await asyncio.gather(
                carry_out(writer, deactivate(license_id, "pc-3")), carry_out(writer, activate(other_id, "pc-2"))
            )
            assert isinstance(refused[0], DeviceNotFound)
            assert taken == [b'{"max_devices": 3, "current_devices": 1}']
    # Both in one batch or one after the other; what can't be decoded is found out by a first reading.
    assert max(counts) in {56, 56 + 3}
    assert rows(database) == good
    check_invariants(database)


async def test_orders_are_carried_out_where_snapshots_cannot_be_written(database: Database) -> None:
    with database.connect_owner() as owner:
        owner.execute("REVOKE INSERT ON lizenzserver.license_snapshots FROM lizenzserver_service")
    license_id = uuid4()
    async with running_writer(database) as writer:
        await carry_out(writer, issue(license_id))
        await come_and_go(writer, license_id, 25)
        assert not rows(database)
        with database.connect_owner() as owner:
            owner.execute("GRANT INSERT ON lizenzserver.license_snapshots TO lizenzserver_service")
        await come_and_go(writer, license_id, EVERY)
    assert rows(database).keys() == {license_id}
    assert len(check_invariants(database)) == 1 + 2 * 25 + 2 * EVERY


def test_an_older_one_never_takes_the_place_of_a_newer(database: Database) -> None:
    """As a process may write that was held up before it got to it."""
    with database.connect() as connection:
        for version in (2 * EVERY, EVERY):
            due, state = Snapshots(), license_with(0)
            state.version = version
            due.advanced(state)
            due.write(connection, {state.id: state})
    assert [row["version"] for row in rows(database).values()] == [2 * EVERY]


async def test_only_licences_have_them(database: Database) -> None:
    key_id = uuid4()
    async with running_writer(database) as writer:
        await carry_out(writer, create_api_key(key_id))
    assert not rows(database)


def test_the_more_devices_the_rarer_so_that_writing_them_stays_in_proportion() -> None:
    due = Snapshots()
    written: list[int] = []

    class Statements:
        def execute(self, _: object, columns: Any) -> None:
            written.append(len(columns[3][0]))

    state = license_with(0)
    for version in range(1, 20_000):
        state.version = version
        state.devices[version.to_bytes(16)] = Activation(UUID(int=version), datetime(2026, 1, 1, tzinfo=UTC))
        due.advanced(state)
        due.write(Statements(), {state.id: state})  # type: ignore[arg-type]
    assert len(written) > 20
    assert sum(written) / 20_000 < 2_000  # bytes an event


def license_with(devices: int) -> License:
    return License(
        id=UUID(int=1),
        version=7,
        subject_id=UUID(int=2),
        product="Editor",
        edition=None,
        max_devices=3,
        features=("a", "ü"),
        floating=True,
        expires_at=datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        devices={
            bytes([number] * 16): Activation(UUID(int=number), datetime(2026, 1, number, tzinfo=UTC), b"tag")
            for number in range(1, devices + 1)
        },
    )


FORM_2 = (
    "8ca26964c41000000000000000000000000000000001a776657273696f6e07aa7375626a6563745f6964c410000000000000"
    "00000000000000000002a770726f64756374a6456469746f72a765646974696f6ec0ab6d61785f6465766963657303a86665"
    "61747572657392a161a2c3bca8666c6f6174696e67c3aa657870697265735f6174d7ffa1dcd42070dd5525a969735f616374"
    "697665c3ae64656163746976617465645f6279c0a76465766963657381c4100101010101010101010101010101010183ad61"
    "637469766174696f6e5f6964c41000000000000000000000000000000001ac6163746976617465645f6174d6ff6955b900a8"
    "6e616d655f746167c403746167"
)


def test_the_form_is_the_one_that_its_number_says() -> None:
    """Where this fails because `License` has changed, raise FORM and put the new bytes here."""
    assert (FORM, encode(license_with(1)).hex()) == (2, FORM_2)
    assert decode(bytes.fromhex(FORM_2)) == license_with(1)
