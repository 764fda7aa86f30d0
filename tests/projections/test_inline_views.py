"""The views equal the fold of the log, whatever came in whatever batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commands.application import LicensingApplication
from commands.orders import Order
from commands.recorder import EVENTS_LOCK
from commands.writer import GroupCommitWriter
from domain.errors import AnomalyDismissed, Refusal
from domain.facts import DeviceActivated, DeviceDeactivated, LicenseIssued, LicenseUpdated, SeatTransferred
from infra.postgres import Database
from projections.inline_views import InlineViews
from tests.support.anomalies import Record, detected, recording, resolve
from tests.support.client import eventually
from tests.support.cluster import Cluster
from tests.support.given import recorded
from tests.support.invariants import check_invariants
from tests.support.orders import (
    PlainEmails,
    activate,
    carry_out,
    create_api_key,
    deactivate,
    issue,
    revoke,
    revoke_api_key,
    running_writer,
    submitted,
    transfer,
    update,
)

LICENSES = st.integers(0, 1)
DEVICES = st.sampled_from(["a", "b", "c"])
NAMES = st.sampled_from([None, b"one", b"two"])
SEALED = st.dictionaries(st.sampled_from(["email", "metadata"]), st.binary(max_size=4))

MakeOrder = Callable[[list[UUID]], Order]


def _activate(number: int, device: str, name: bytes | None, *, repeatable: bool) -> MakeOrder:
    sealed = {"device_name": b"sealed " + name, "os_info": b"os"} if name else {}
    return lambda ids: activate(ids[number], device, name_tag=name, sealed=sealed, repeatable=repeatable)


def _changes() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            "max_devices": st.integers(1, 3),
            "features": st.lists(st.sampled_from(["x", "y"])).map(tuple),
            "product": st.sampled_from([None, "p"]),
            "floating": st.booleans(),
            "is_active": st.booleans(),
            "sealed": SEALED,
        },
    )


ORDERS: st.SearchStrategy[MakeOrder] = st.one_of(
    st.builds(_activate, LICENSES, DEVICES, NAMES, repeatable=st.booleans()),
    st.builds(_activate, LICENSES, DEVICES, NAMES, repeatable=st.booleans()),
    st.builds(lambda n, d: lambda ids: deactivate(ids[n], d), LICENSES, DEVICES),
    st.builds(lambda n, a, b: lambda ids: transfer(ids[n], a, b), LICENSES, DEVICES, DEVICES),
    st.builds(lambda n, c: lambda ids: update(ids[n], **c), LICENSES, _changes()),
    st.builds(lambda n: lambda ids: revoke(ids[n]), LICENSES),
    st.builds(lambda n: lambda ids: issue(ids[n]), LICENSES),
    st.just(lambda _: create_api_key(uuid4())),
    st.just(lambda ids: revoke_api_key(ids[2])),
    st.builds(
        lambda n, resolution, reason: lambda ids: resolve(ids[n], resolution, reason),
        st.integers(2, 4),  # the first is no anomaly
        st.sampled_from(["acknowledged", "dismissed"]),
        NAMES,
    ),
)


async def _carry_out(writer: GroupCommitWriter, record: Record, batches: list[list[MakeOrder]]) -> None:
    ids = [uuid4(), uuid4(), uuid4(), uuid4(), uuid4()]
    record(detected(ids[3]), detected(ids[4], license_id=ids[0], kind="hammering"))
    for first in (issue(ids[0]), issue(ids[1], max_devices=2), create_api_key(ids[2])):
        await writer.execute(submitted(first))
    for batch in batches:
        # All at once, so that the writer takes them as one batch.
        submissions = [submitted(make(ids)) for make in batch]
        results = await asyncio.gather(*map(writer.execute, submissions), return_exceptions=True)
        assert all(isinstance(result, bytes | Refusal) for result in results), results


def test_views_equal_the_fold_of_the_log_after_any_orders(cluster: Cluster) -> None:
    database = cluster.new_database()

    with asyncio.Runner() as runner:

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(st.lists(ORDERS, min_size=1, max_size=8), min_size=1, max_size=6))
        def orders_in_batches(batches: list[list[MakeOrder]]) -> None:
            runner.run(_carry_out(writer, record, batches))
            check_invariants(database)

        context = running_writer(database)
        writer = runner.run(context.__aenter__())
        try:
            with recording(database) as record:
                orders_in_batches()
        finally:
            runner.run(_leave(context))
    cluster.drop(database)


async def _leave(context: Any) -> None:
    await context.__aexit__(None, None, None)


async def at_once(database: Database, writer: GroupCommitWriter, orders: list[Order]) -> list[Any]:
    """Have orders decided in one batch: the thread takes no more before all of them wait."""
    waits = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with database.connect() as other, database.connect() as looking:

        async def thread_is_busy() -> bool:
            return bool(looking.execute(waits).fetchall())

        async def all_wait() -> bool:
            return writer.waiting() == len(orders)

        with other.transaction():
            other.execute("SELECT pg_advisory_xact_lock(%s)", (EVENTS_LOCK,))
            before = asyncio.create_task(writer.execute(submitted(issue(uuid4()))))
            await eventually(thread_is_busy)
            waiting = [asyncio.create_task(writer.execute(submitted(order))) for order in orders]
            await eventually(all_wait)
    await before
    return list(await asyncio.gather(*waiting))


async def test_one_device_may_come_and_go_within_one_batch(database: Database) -> None:
    async with running_writer(database) as writer:
        license_id = uuid4()
        await writer.execute(submitted(issue(license_id, max_devices=2)))
        orders = [
            activate(license_id, "a", name_tag=b"n", sealed={"device_name": b"first", "os_info": b"os"}),
            deactivate(license_id, "a"),
            activate(license_id, "a", name_tag=b"m", sealed={"device_name": b"second"}),
            activate(license_id, "a", name_tag=b"o", sealed={"device_name": b"third"}, repeatable=True),
            transfer(license_id, "a", "b"),
            transfer(license_id, "b", "a"),
            activate(license_id, "b", name_tag=b"p", sealed={"device_name": b"fourth"}),
            deactivate(license_id, "a"),
        ]
        results = await at_once(database, writer, orders)
        assert all(isinstance(result, bytes) for result in results)
        assert writer.stats.batches == 3
        check_invariants(database)
        with database.connect() as connection:
            rows = connection.execute(
                "SELECT hardware_id, is_active, device_name_sealed FROM devices ORDER BY hardware_id"
            ).fetchall()
            row = connection.execute(
                "SELECT current_devices FROM licenses WHERE license_id = %s", (license_id,)
            ).fetchone()
    assert rows == [
        {"hardware_id": "a", "is_active": False, "device_name_sealed": None},
        {"hardware_id": "b", "is_active": True, "device_name_sealed": b"fourth"},
    ]
    assert row == {"current_devices": 1}


async def test_what_came_before_a_device_was_activated_anew_in_one_batch_does_not_outlive_that(
    database: Database,
) -> None:
    async with running_writer(database) as writer:
        license_id = uuid4()
        await carry_out(writer, issue(license_id, max_devices=2), activate(license_id, "a"))
        orders = [
            activate(license_id, "a", name_tag=b"n", sealed={"device_name": b"renamed"}, repeatable=True),
            deactivate(license_id, "a"),
            activate(license_id, "a"),
        ]
        results = await at_once(database, writer, orders)
        assert all(isinstance(result, bytes) for result in results)
        assert writer.stats.batches == 4
    check_invariants(database)
    with database.connect() as connection:
        rows = connection.execute("SELECT is_active, device_name_sealed FROM devices").fetchall()
    assert rows == [{"is_active": True, "device_name_sealed": None}]


async def test_an_anomaly_is_open_until_somebody_says_what_it_is(database: Database) -> None:
    of_address, of_license, license_id = uuid4(), uuid4(), uuid4()
    with recording(database) as record:
        record(detected(of_address), detected(of_license, license_id=license_id, kind="hammering", severity="high"))
    async with running_writer(database) as writer:
        results = await carry_out(
            writer,
            resolve(of_license, "acknowledged", b"asked them"),
            resolve(of_license, "acknowledged", b"again"),
            resolve(of_license, "dismissed", b"a CI"),
            resolve(of_license, "acknowledged", b"too late"),
        )
    assert [type(result) for result in results] == [bytes, bytes, bytes, AnomalyDismissed]
    log = check_invariants(database)
    assert len(log) == 4, "what is said again changes nothing"
    columns = "kind, severity, license_id, address_hash, status, resolved_by, reason_sealed"
    with database.connect() as connection:
        rows = connection.execute(f"SELECT {columns} FROM anomalies ORDER BY position").fetchall()
    assert [tuple(row.values()) for row in rows] == [
        ("key_guessing", "medium", None, b"a" * 16, "open", None, None),
        ("hammering", "high", license_id, None, "dismissed", "admin:test", b"a CI"),
    ]


def test_views_do_not_depend_on_how_events_are_cut_into_batches(cluster: Cluster) -> None:
    license_id = uuid4()
    facts = [
        LicenseIssued(key_digest=b"d", key_sealed=b"s", max_devices=2, sealed={"email": b"one"}),
        DeviceActivated(hardware_id="a"),
        DeviceActivated(hardware_id="b", sealed={"device_name": b"name"}),
        SeatTransferred(from_hardware_id="a", to_hardware_id="c", ended_activation_id=UUID(int=1)),
        LicenseUpdated(max_devices=1, sealed={"email": b"two"}),
        DeviceDeactivated(hardware_id="b", activation_id=UUID(int=1)),
        DeviceActivated(hardware_id="b"),
    ]
    events = [(version, recorded(license_id, version, fact)) for version, fact in enumerate(facts, 1)]
    states = []
    for size in (1, 2, 3, len(events)):
        database = cluster.new_database()
        views = InlineViews(PlainEmails())
        with database.connect() as connection:
            for start in range(0, len(events), size):
                views.apply(connection, events[start : start + size])
            licenses = connection.execute("SELECT * FROM licenses").fetchall()
            devices = connection.execute("SELECT * FROM devices ORDER BY hardware_id").fetchall()
        states.append((licenses, devices))
        cluster.drop(database)
    assert all(state == states[0] for state in states)
    ((license,), _) = states[0]
    assert license["email_hash"] == PlainEmails().email_hash(UUID(int=9), b"two")


def test_what_the_log_holds_can_be_loaded_again(cluster: Cluster, database: Database) -> None:
    """The library's own repository reads what the writer has written."""
    license_id = uuid4()

    async def write() -> None:
        async with running_writer(database) as writer:
            for order in (issue(license_id), activate(license_id, "a"), transfer(license_id, "a", "b")):
                await writer.execute(submitted(order))

    asyncio.run(write())
    application = LicensingApplication(database.conninfo(), InlineViews(PlainEmails()))
    try:
        state: Any = application.load(license_id)
        assert state.activation("b") is not None
        assert state.limits == {"max_devices": 3, "current_devices": 1}
    finally:
        application.close()
