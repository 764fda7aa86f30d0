"""Erasures that race, that are cut off at any point, and that a restored backup undoes: none is half done or lost."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import msgspec
import psycopg
import pytest

import cli.workers
import workers.detection
from api.services import Services
from commands import usage_log
from domain.anomalies.state import LicenseState, dumps, loads_license
from infra.erasure_register import Erasure, ErasureRegister
from infra.postgres import Database
from projections import behaviour
from tests.support.client import Client, Reply, eventually
from tests.support.cluster import Cluster
from tests.support.nursery import Nursery
from tests.support.service import running, settings_for

REASON = {"reason": "Ticket 4711"}
DEVICE = {"device_name": "Zoes Schreibtisch", "os_info": {"name": "Plan9-Quokka", "version": "77"}}


async def erase(client: Client, name: str) -> Reply:
    return await client.admin("POST", f"/customers/{name}/erase", REASON)


def events(database: Database) -> list[dict[str, Any]]:
    with database.connect() as connection:
        return connection.execute(
            "SELECT notification_id AS position, originator_id AS id, topic, convert_from(state, 'UTF8')::json AS state"
            " FROM licensing_events ORDER BY notification_id"
        ).fetchall()


def subjects(database: Database) -> dict[UUID, dict[str, Any]]:
    with database.connect() as connection:
        return {row["subject_id"]: row for row in connection.execute("SELECT * FROM data_subjects").fetchall()}


def refute_half_erased(database: Database, register: ErasureRegister) -> set[UUID]:
    """Fail where something is sealed under a key that was destroyed before; return who was erased."""
    erased: dict[UUID, dict[str, Any]] = {}
    licenses: dict[UUID, list[str]] = {}
    for event in events(database):
        state = event["state"]
        if event["topic"] == "customer.erased":
            assert event["id"] not in erased, "nobody is erased twice"
            erased[event["id"]] = state["data"]
            continue
        subject = UUID(state["subject_id"]) if "subject_id" in state else None
        if subject is None:
            continue
        if event["topic"] == "license.issued":
            assert subject not in erased, "no licence is issued to whoever was erased"
            licenses.setdefault(subject, []).append(str(event["id"]))
        sealed = state["data"].get("sealed") or state["cause"].get("sealed_address")
        assert not (sealed and subject in erased), f"{event['topic']} is sealed under a key that was destroyed"
    for subject, row in subjects(database).items():
        assert (row["wrapped_key"] is None) == (row["lookup_hash"] is None) or row["lookup_hash"] is None
        assert (row["wrapped_key"] is None) == (subject in erased)
    for subject, data in erased.items():
        assert sorted(data.get("license_ids", [])) == sorted(licenses.get(subject, [])), "all licences are named"
    assert set(erased) <= {line.subject_id for line in register.read()}
    return set(erased)


@asynccontextmanager
async def two_processes(
    cluster: Cluster, tmp_path: Path
) -> AsyncIterator[tuple[Database, tuple[Services, Client], tuple[Services, Client]]]:
    database = cluster.new_database()
    settings = settings_for(tmp_path)
    async with running(settings, database) as one, running(settings, database) as two:
        yield database, one, two
    cluster.drop(database)


async def test_a_process_without_traffic_forgets_too(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_log, "LOOK_SECONDS", 0.2)
    async with two_processes(cluster, tmp_path) as (_, (_, client), (idle, other)):
        license = await client.new_license(customer_id="acme", email="zoe@example.org")
        await other.activate(license, "hw", fields=DEVICE)
        await other.validate(license, "hw")
        (subject,) = (await client.admin("GET", "/customers/acme/export"))["subject_ids"]
        assert idle.vault.knows(UUID(subject))
        assert idle.usage_details._sealed
        assert (await erase(client, "acme")).status == 200

        async def has_forgotten() -> bool:
            return not idle.vault.knows(UUID(subject)) and not idle.usage_details._sealed and not len(idle.standings)

        await eventually(has_forgotten)


async def test_the_anomaly_worker_forgets_and_begins_the_licences_anew(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the worker has in memory, too: what it sees afterwards is put on top of nothing."""
    for module in (workers.detection, behaviour):
        monkeypatch.setattr(module, "_AT_ONCE", 2)
    put_together = cli.workers._detection
    monkeypatch.setattr(cli.workers, "_detection", lambda *given: put_together(*given)._replace(settle_seconds=0.2))
    database = cluster.new_database()

    def states() -> list[LicenseState]:
        with database.connect() as connection:
            rows = connection.execute("SELECT state FROM license_behaviour").fetchall()
        return [loads_license(bytes(row["state"])) for row in rows]

    async def has_passed() -> bool:
        with database.connect() as connection:
            row = connection.execute(
                "SELECT event_position >= (SELECT max(notification_id) FROM licensing_events)"
                " AND usage_position >= (SELECT max(id) FROM usage) AS passed FROM consumers WHERE consumer = 'anomaly'"
            ).fetchone()
        return bool(row and row["passed"])

    async def are_stored(uses: int) -> bool:
        """Tell whether all rows are in the log: the last may come a moment after its answer."""
        with database.connect() as connection:
            return len(connection.execute("SELECT FROM usage").fetchall()) == uses

    async with running(settings_for(tmp_path), database) as (_, client):
        licenses = [await client.new_license(customer_id="acme") for _ in range(5)]
        for license in licenses:
            await client.activate(license, "hw")
            await client.validate(license, "hw")
        await eventually(lambda: are_stored(5))
        await eventually(has_passed, 40)
        assert [(len(state.devices), state.has_activations) for state in states()] == [(1, True)] * 5
        assert (await erase(client, "acme")).status == 200
        assert states() == [LicenseState(0, max_devices=3)] * 5, "what a licence allows is no secret"
        await eventually(has_passed, 40)
        for license in licenses:
            assert (await client.validate(license, "hw")).status == 200
        await eventually(lambda: are_stored(10))
        await eventually(has_passed, 40)
        assert [(len(state.devices), state.has_activations) for state in states()] == [(1, False)] * 5
    cluster.drop(database)


async def test_what_the_anomaly_worker_stores_is_not_undone_by_what_was_read_before(database: Database) -> None:
    used, damaged = uuid4(), uuid4()
    refused: list[UUID] = []

    class Overtaken:
        """A connection by which somebody reads; before he writes, the worker tries to."""

        def __init__(self, connection: Any) -> None:
            self._connection = connection
            self.transaction = connection.transaction

        async def execute(self, query: str, parameters: Any) -> Any:
            if not query.lstrip().startswith("SELECT"):
                for id in (used, damaged):
                    with suppress(psycopg.errors.LockNotAvailable), database.connect(lock_timeout="50ms") as worker:
                        refused.append(id)
                        worker.execute("UPDATE license_behaviour SET state = 'newer' WHERE license_id = %s", (id,))
                        refused.remove(id)
            return await self._connection.execute(query, parameters)

    state = dumps(LicenseState(1, max_devices=7, has_activations=True))
    async with await database.connect_async() as connection:
        for id, stored in ((used, state), (damaged, b"?")):
            await connection.execute("INSERT INTO license_behaviour VALUES (%s, %s)", (id, stored))
        await behaviour.begin_anew(Overtaken(connection), [used, damaged])
        rows = await (await connection.execute("SELECT * FROM license_behaviour")).fetchall()
    assert set(refused) == {used, damaged}, "it waits"
    assert [(row["license_id"], loads_license(bytes(row["state"]))) for row in rows] == [
        (used, LicenseState(0, max_devices=7))
    ]


async def test_orders_race_with_erasures_on_two_processes(cluster: Cluster, tmp_path: Path) -> None:
    rounds, customers = int(os.environ.get("ERASURE_ROUNDS", "4")), 5

    async def live(client: Client, customer: str) -> None:
        for number in range(3):
            created = await client.admin("POST", "/licenses", {"customer_id": customer, "email": f"{customer}@x.org"})
            assert created.status == 201
            assert (await client.activate(created.body, f"hw-{number}", fields=DEVICE)).status == 201
            changed = await client.admin("PATCH", f"/licenses/{created['license_id']}", {"metadata": {"n": number}})
            assert changed.status in {200, 409}
            moved = {"from_hardware_id": f"hw-{number}", "to_hardware_id": "hw-9", "reason": "moved"}
            assert (await client.admin("POST", f"/licenses/{created['license_id']}/transfer", moved)).status == 200

    async def end(client: Client, customer: str) -> int:
        await asyncio.sleep(0.005 * (hash((customer, id(client))) % 7))
        erased = await erase(client, customer)
        assert erased.status in {200, 404}
        return erased.status

    async with two_processes(cluster, tmp_path) as (database, (services, one), (_, two)):
        done: list[Any] = []
        for round_ in range(rounds):
            names = [f"c{round_}-{number}" for number in range(customers)]
            done += await asyncio.gather(
                *(live(client, name) for name in names for client in (one, two)),
                *(end(client, name) for name in names for client in (one, two, one)),
            )
        erased = refute_half_erased(database, services.register)
        assert done.count(200) >= len(erased) > 0
        for client in (one, two):
            for row in (await client.admin("GET", "/licenses?per_page=100"))["licenses"]:
                if row["customer_id"] is not None:
                    found = await client.admin("GET", f"/licenses?per_page=100&customer_id={row['customer_id']}")
                    assert row["license_id"] in [each["license_id"] for each in found["licenses"]]


@pytest.mark.parametrize("point", ["registered", "orders decided", "commit sent", "committed"])
async def test_a_process_killed_while_it_erases_has_erased_at_the_next_start(
    cluster: Cluster, tmp_path: Path, point: str
) -> None:
    database, folder = cluster.new_database(), tmp_path / "data"
    folder.mkdir()
    with Nursery(tmp_path) as nursery:
        with nursery.serve(database, folder) as server:
            async with server.client() as client:
                client.api_key = (await client.new_api_key())["api_key"]
                license = await client.new_license(customer_id="acme", email="zoe@example.org")
                await client.activate(license, "hw", fields=DEVICE)
        # Keys of other orders are not kept: the erasure is the first order that comes to the point.
        with nursery.serve(database, folder, KILL_AT=point, KILL_PASS="1") as doomed:
            async with doomed.client() as client:
                with pytest.raises(aiohttp.ClientError):
                    await erase(client, "acme")
            assert await asyncio.to_thread(doomed.ended_at, point)
        register = ErasureRegister(folder / "erasures.jsonl")
        assert len(register.read()) == 1
        with nursery.serve(database, folder) as server:
            async with server.client() as client:
                shown = await client.admin("GET", f"/licenses/{license['license_id']}")
                assert (shown["customer_id"], shown["email"]) == (None, None)
                assert (await erase(client, "acme")).status == 404
    assert len(refute_half_erased(database, register)) == 1
    told = [e["state"] for e in events(database) if e["topic"] == "customer.erased"]
    if point == "registered":
        assert told[0]["cause"]["actor"] == "job:erasure-register"
        assert told[0]["data"]["ordered_by"] == "admin:default"
    cluster.drop(database)


async def test_a_restored_backup_is_erased_again_before_anything_is_served(cluster: Cluster, tmp_path: Path) -> None:
    database = cluster.new_database()
    settings = settings_for(tmp_path)
    async with running(settings, database) as (_, client):
        license = await client.new_license(customer_id="acme", email="zoe@example.org")
        await client.activate(license, "hw", fields=DEVICE)
        kept = await client.new_license(customer_id="stays", email="bob@example.org")
    backup = cluster.copy(database)
    async with running(settings, database) as (_, client):
        assert (await erase(client, "acme")).status == 200
        late = await client.new_license(customer_id="too late for the backup")
        assert (await erase(client, "too late for the backup")).status == 200
    for _ in range(2):  # a second start changes nothing
        async with running(settings, backup) as (services, client):
            shown = await client.admin("GET", f"/licenses/{license['license_id']}")
            assert (shown["customer_id"], shown["email"]) == (None, None)
            assert (await client.admin("GET", f"/licenses/{kept['license_id']}"))["email"] == "bob@example.org"
            assert (await client.admin("GET", f"/licenses/{late['license_id']}")).status == 404
            assert (await client.admin("GET", "/licenses?customer_id=acme"))["licenses"] == []
            register = services.register
    assert len(refute_half_erased(backup, register)) == 1
    told = [e["state"] for e in events(backup) if e["topic"] == "customer.erased"]
    assert [(t["cause"]["actor"], t["data"]["ordered_by"]) for t in told] == [("job:erasure-register", "admin:default")]
    cluster.drop(database)
    cluster.drop(backup)


async def test_another_machines_register_learns_whom_the_database_knows(cluster: Cluster, tmp_path: Path) -> None:
    database = cluster.new_database()
    here, there = tmp_path / "here", tmp_path / "there"
    settings = settings_for(here)
    async with running(settings, database) as (_, client):
        await client.new_license(customer_id="acme")
        assert (await erase(client, "acme")).status == 200
    keys = {"DATA_DIR": str(here), "ERASURE_REGISTER": str(there / "erased.jsonl")}
    there.mkdir()
    async with running(settings_for(here, **keys), database) as (services, _):
        assert services.register.path == there / "erased.jsonl"
    mine = (here / "erasures.jsonl").read_text()
    theirs = (there / "erased.jsonl").read_text()
    assert json.loads(mine) == json.loads(theirs)
    cluster.drop(database)


async def test_without_a_register_nobody_is_erased(cluster: Cluster, tmp_path: Path) -> None:
    """What can't be written outside the database would be lost with a restore: it is refused, and nothing is done."""
    database = cluster.new_database()
    async with running(settings_for(tmp_path), database) as (services, client):
        await client.new_license(customer_id="acme")
        services.register.path = Path("/proc/no-such-folder/erasures.jsonl")
        assert (await erase(client, "acme")).status == 503
        assert (await client.admin("GET", "/licenses?customer_id=acme"))["licenses"]
    cluster.drop(database)


def erasure(number: int) -> Erasure:
    return Erasure(subject_id=UUID(int=number), ordered_at=datetime(2026, 1, 1, tzinfo=UTC), ordered_by="admin:maria")


def test_a_line_that_was_cut_off_harms_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    register = ErasureRegister(tmp_path / "new" / "erasures.jsonl")
    assert register.read() == []
    first, second = erasure(1), erasure(2)
    register.add([first])
    with register.path.open("ab") as file:
        file.write(b'{"subject_id":"0000')
    register.add([second, first])
    assert register.read() == [first, second]
    assert "line 2 of the register" in caplog.text
    assert register.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damage", [lambda line: line[:70], lambda line: line.replace(b"2026", b"\xff\x00!")])
def test_whom_a_damaged_line_still_names_is_erased(tmp_path: Path, damage: Any) -> None:
    register = ErasureRegister(tmp_path / "erasures.jsonl")
    register.add([erasure(1), erasure(2), erasure(3)])
    lines = register.path.read_bytes().splitlines()
    register.path.write_bytes(b"\n".join([lines[0], damage(lines[1]), lines[2], lines[0]]) + b"\n")
    found = register.read()
    assert [one.subject_id for one in found] == [UUID(int=number) for number in (1, 2, 3)]
    assert (found[0], found[2]) == (erasure(1), erasure(3))
    assert found[1].ordered_by == "unknown"


def test_a_line_is_on_the_disk_when_it_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register = ErasureRegister(tmp_path / "new" / "erasures.jsonl")
    synced: list[tuple[str, int]] = []

    def fsync(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, os.fstat(descriptor).st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    register.add([erasure(1)])
    size = register.path.stat().st_size
    assert synced[0] == ("erasures.jsonl", size), "the whole line"
    assert [name for name, _ in synced] == ["erasures.jsonl", "new"], "and the name of a file that is new"
    register.add([erasure(2)])
    assert synced[2:] == [("erasures.jsonl", register.path.stat().st_size)]


def test_nobody_writes_within_anothers_line(tmp_path: Path) -> None:
    register = ErasureRegister(tmp_path / "erasures.jsonl")
    register.add([erasure(1)])
    with register.path.open("ab") as another:
        fcntl.flock(another, fcntl.LOCK_EX)
        writing = Thread(target=register.add, args=([erasure(2)],))
        writing.start()
        line = msgspec.json.encode(erasure(3))
        another.write(line[:30])
        another.flush()
        writing.join(0.3)
        assert writing.is_alive(), "it waits for its turn"
        another.write(line[30:] + b"\n")
    writing.join(10)
    assert register.read() == [erasure(1), erasure(3), erasure(2)]
