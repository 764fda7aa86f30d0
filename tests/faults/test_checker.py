"""The checker finds what is wrong, and nothing else: data are made false in each way, one at a time."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from infra.postgres import Database
from tests.support.answers import Answers, Command
from tests.support.checker import Checker, Report, check
from tests.support.client import Client, Reply, eventually
from tests.support.cluster import Cluster
from tests.support.processes import ServerProcess, client_of
from tests.support.queue_consumer import apply, opened
from tests.support.seat_fold import Row

BEGUN = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass
class History:
    """A database after some orders and validations, what their clients were told, and what a queue consumer has.

    The database is shared as long as nobody changes it, and a copy from then on.
    """

    database: Database
    answers: Answers
    queue: Path
    copy: Callable[[Database], Database] | None = None

    def report(self) -> Report:
        return check(self.database, self.answers, queues=[self.queue])

    def execute(self, statement: str, *parameters: Any) -> None:
        """Change data as only the owner can."""
        self.have_own()
        with self.database.connect_owner() as owner:
            owner.execute("SET search_path TO lizenzserver")
            assert owner.execute(statement, parameters).rowcount == 1

    def have_own(self) -> None:
        if self.copy is not None:
            self.database, self.copy = self.copy(self.database), None

    def one(self, query: str, *parameters: Any) -> Row:
        with self.database.connect() as connection:
            row = connection.execute(query, parameters).fetchone()
        assert row is not None
        return dict(row)


async def happen(client: Client, answers: Answers) -> None:
    """Two licences of two seats, both full; a seat moved, one given up, one refused; validations."""
    admin = {"X-Admin-API-Key": client.secrets.admin_api_key}
    program = {"X-API-Key": client.api_key}
    for number in range(2):
        body: dict[str, Any] = {"customer_id": "acme", "max_devices": 2, "email": "a@example.com"}
        created = await answers.ask(client, Command(f"h-{number}", "POST", "/api/v1/admin/licenses", body, admin))
        assert created is not None
        key, id = created["license_key"], created["license_id"]
        for device in "abc":
            body = {"license_key": key, "hardware_id": device}
            command = Command(f"h-{number}-{device}", "POST", "/api/v1/license/activate", body, program)
            await answers.ask(client, command)
            mark = BEGUN + timedelta(seconds=100 * number + ord(device))
            reply = await client.validate(
                created.body, device, fields={"client_time": mark.isoformat(), "app_version": "1"}
            )
            answers.note_use(mark, reply.status)
        move = {"from_hardware_id": "a", "to_hardware_id": "d"}
        path = f"/api/v1/admin/licenses/{id}/transfer"
        await answers.ask(client, Command(f"h-{number}-move", "POST", path, move, admin))
        body = {"license_key": key, "hardware_id": "b"}
        await answers.ask(client, Command(f"h-{number}-end", "POST", "/api/v1/license/deactivate", body, program))


def messages(database: Database) -> list[bytes]:
    """Return a message of each row of the logs, as far as a consumer reads it."""
    with database.connect() as connection:
        events = connection.execute(
            "SELECT notification_id AS position, topic AS type, convert_from(state, 'UTF8')::jsonb ->> 'event_id' AS id"
            " FROM licensing_events ORDER BY 1"
        ).fetchall()
        usage = connection.execute("SELECT id AS position, type FROM usage ORDER BY 1").fetchall()
    return [
        *(_message("events", row["position"], row["type"], row["id"]) for row in events),
        *(_message("usage", row["position"], row["type"], str(UUID(int=row["position"]))) for row in usage),
    ]


def _message(log: str, position: int, type: str, id: str) -> bytes:
    return json.dumps(
        {"id": id, "source": f"/lizenzserver/x/{log}", "sequence": f"{position:019}", "type": type}
    ).encode()


@pytest.fixture(scope="module")
def finished(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """Give what is true; each test gets a copy."""
    database, folder = cluster.new_database(), tmp_path_factory.mktemp("history")
    answers = Answers("h-")
    answers.is_down, answers.is_complete = False, True
    server = ServerProcess(database, folder).wait_ready()
    try:
        asyncio.run(_begin(server, database, answers))
    finally:
        server.stop()
    bodies = messages(database)
    with closing(opened(folder / "queue")) as queue:
        apply(queue, bodies)
        apply(queue, bodies[3:7])
    yield History(database, answers, folder / "queue")
    cluster.drop(database)


async def _begin(server: ServerProcess, database: Database, answers: Answers) -> None:
    async with client_of(server) as client:
        client.api_key = (await client.new_api_key())["api_key"]
        await happen(client, answers)
        # One may be answered a moment before it is stored, and only those that succeeded are waited for.
        await eventually(lambda: has_uses(database, 8))
    report = await asyncio.to_thread(check, database, answers, patience=20)
    assert report.holds, report


async def has_uses(database: Database, number: int) -> bool:
    with database.connect() as connection:
        return len(connection.execute("SELECT FROM usage").fetchall()) == number


@pytest.fixture
def history(finished: History, cluster: Cluster, tmp_path: Path) -> Iterator[History]:
    queue = tmp_path / "queue"
    with closing(sqlite3.connect(finished.queue)) as source, closing(sqlite3.connect(queue)) as target:
        source.backup(target)
    given = History(finished.database, deepcopy(finished.answers), queue, cluster.copy)
    yield given
    if given.database is not finished.database:
        cluster.drop(given.database)


def only(report: Report, *expected: tuple[str, str]) -> None:
    """Assert that the report has these findings (invariant, part of its text) and no other."""
    for finding in report.findings:
        assert any(finding.invariant == invariant and part in finding.text for invariant, part in expected), finding
    for invariant, part in expected:
        assert any(part in text for text in report.of(invariant)), (invariant, part, str(report))


def test_what_is_true_holds(history: History) -> None:
    report = history.report()
    assert report.holds, report
    # Two issues, four activations, two moves, two ends; the API key of the test.
    assert report.figures == {"events": 11, "uses": 8, "licences": 2, "anomalies": 0, "repeats": 4}


def test_an_event_that_is_removed(history: History) -> None:
    """Its command has no events, its licence has a gap, and all that followed from it is in the views without cause."""
    history.execute("DELETE FROM licensing_events WHERE topic = 'license.transferred' AND notification_id < 8")
    license_id = history.one("SELECT license_id FROM licenses ORDER BY position LIMIT 1")["license_id"]
    only(
        history.report(),
        ("L", "h-0-move was told 200 and has 0 events"),
        ("L", f"an event is missing (device.deactivated of {license_id}"),
        ("P", "a row of devices differs"),
        ("P", "a row of seat_changes differs"),
        ("P", "a row of seat_days differs"),
        ("D", "is not in the log"),
    )


def test_the_last_event_that_is_removed(history: History) -> None:
    """No gap tells of it."""
    history.execute(
        "DELETE FROM licensing_events WHERE notification_id = (SELECT max(notification_id) FROM licensing_events)"
    )
    report = history.report()
    assert report.of("L") == ["h-1-end was told 200 and has 0 events"]
    assert any("a row of devices differs" in text for text in report.of("P"))


def test_a_command_that_is_carried_out_twice(history: History) -> None:
    history.execute("""
        INSERT INTO licensing_events (originator_id, originator_version, topic, state)
        SELECT originator_id, originator_version + 1, 'license.reactivated', convert_to(jsonb_set(jsonb_set(
            convert_from(state, 'UTF8')::jsonb, '{data}', '{}'),
            '{cause,command_id}', to_jsonb(gen_random_uuid()))::text, 'UTF8')
        FROM licensing_events ORDER BY notification_id DESC LIMIT 1
    """)
    report = check(history.database, history.answers, settled=False)
    only(report, ("L", "h-1-end was carried out twice"), ("L", "h-1-end was told 200 and has 2 events"))


def test_a_seat_too_many(history: History) -> None:
    """An activation that nobody decided: written past the service, with its view."""
    row = history.one("SELECT * FROM licenses ORDER BY position DESC LIMIT 1")
    state = _activation("e")
    for number, device in enumerate("ef"):
        state = _activation(device)
        history.execute(
            "INSERT INTO licensing_events (originator_id, originator_version, topic, state)"
            " VALUES (%s, %s, 'license.activated', %s)",
            row["license_id"],
            6 + number,
            json.dumps(state).encode(),
        )
        history.execute(
            "INSERT INTO devices (license_id, device_digest, hardware_id, activation_id, is_active, activated_at)"
            " VALUES (%s, substring(sha256(%s) FOR 16), %s, %s, true, %s)",
            row["license_id"],
            device.encode(),
            device,
            state["event_id"],
            state["occurred_at"],
        )
    history.execute("UPDATE licenses SET current_devices = 3 WHERE license_id = %s", row["license_id"])
    report = check(history.database, history.answers, settled=False)
    only(report, ("S", f"a seat is taken beyond 2 (license.activated of {row['license_id']}"))
    assert len(report.findings) == 1


def _activation(device: str) -> dict[str, Any]:
    cause = {"actor": "nobody", "command": "activate", "command_id": str(uuid4()), "request_id": f"x-{device}"}
    return {
        "event_id": str(uuid4()),
        "occurred_at": "2026-03-01T00:00:00+00:00",
        "schema_version": 1,
        "cause": cause,
        "data": {"hardware_id": device},
    }


def test_events_of_a_command_that_nobody_gave(history: History) -> None:
    del history.answers.outcomes["h-1-end"]
    only(history.report(), ("L", "nobody asked for h-1-end"))


@pytest.mark.parametrize("status", [503, None, 409])
def test_a_refusal_with_events(history: History, status: int | None) -> None:
    """Who was told that nothing was done was told wrong; who was told nothing was not, if all was done."""
    history.answers.note("h-1-end", status)
    if status == 409:
        only(history.report(), ("L", "h-1-end was told 409 and has 1 events"))
    else:
        assert history.report().holds
        history.answers.note("h-1-end", status, least=2, most=2)
        only(history.report(), ("L", "h-1-end has no answer, and 1 events: a part of its set"))


@pytest.mark.parametrize(
    "statement, table",
    [
        ("UPDATE licenses SET current_devices = 0 WHERE position = (SELECT min(position) FROM licenses)", "licenses"),
        ("UPDATE licenses SET epoch = 1 WHERE position = (SELECT min(position) FROM licenses)", "licenses"),
        ("DELETE FROM licenses WHERE position = (SELECT max(position) FROM licenses)", "licenses"),
        (
            "UPDATE devices SET is_active = true WHERE ctid = (SELECT min(ctid) FROM devices WHERE NOT is_active)",
            "devices",
        ),
        ("UPDATE api_keys SET revoked_at = now()", "api_keys"),
        ("UPDATE seat_changes SET activations = 2 WHERE ctid = (SELECT min(ctid) FROM seat_changes)", "seat_changes"),
        # Of each there are two rows where midnight has passed meanwhile.
        ("UPDATE seat_days SET activations = 9 WHERE day = (SELECT min(day) FROM seat_days)", "seat_days"),
        (
            "UPDATE fleet_device_days SET unique_devices = 9 WHERE day = (SELECT min(day) FROM fleet_device_days)",
            "fleet_device_days",
        ),
        (
            "UPDATE usage_days SET validations = validations + 1 WHERE ctid = (SELECT min(ctid) FROM usage_days)",
            "usage_days",
        ),
        ("DELETE FROM device_sessions WHERE ctid = (SELECT min(ctid) FROM device_sessions)", "device_sessions"),
    ],
)
def test_a_row_of_a_view_that_differs(history: History, statement: str, table: str) -> None:
    history.execute(statement)
    only(history.report(), ("P", f"a row of {table} differs"))


def test_a_snapshot_of_what_has_not_been(history: History) -> None:
    license_id = history.one("SELECT license_id FROM licenses ORDER BY position LIMIT 1")["license_id"]
    history.execute("INSERT INTO license_snapshots VALUES (%s, 5, 1, '')", license_id)
    assert history.report().holds
    history.execute("UPDATE license_snapshots SET version = 6")
    only(history.report(), ("P", f"the snapshot of {license_id} is of version 6, which has not been"))


def test_a_view_that_is_behind(history: History) -> None:
    history.execute("UPDATE consumers SET event_position = event_position - 1 WHERE consumer = 'seats'")
    only(history.report(), ("P", "seats is at 10 of the event log, which ends at 11"))


def test_a_row_that_was_set_aside(history: History) -> None:
    history.execute("INSERT INTO dead_letters (consumer, log, position, error) VALUES ('seats', 'events', 3, 'bad')")
    only(history.report(), ("P", "seats has set aside 3 of events: bad"))


def test_a_use_that_is_stored_twice(history: History) -> None:
    columns = "occurred_at, type, operation, license_id, hardware_id, app_version, client_time, details_sealed"
    last = "(SELECT max(id) FROM usage WHERE client_time IS NOT NULL)"
    history.execute(f"INSERT INTO usage ({columns}) SELECT {columns} FROM usage WHERE id = {last}")
    report = check(history.database, history.answers, settled=False)
    mark = max(history.answers.uses)
    assert [str(finding) for finding in report.findings] == [f"D: the use of {mark.isoformat()} is stored 2 times"]


def test_a_use_that_is_not_stored(history: History) -> None:
    mark = BEGUN - timedelta(days=1)
    history.answers.note_use(mark, 200, "one")
    only(history.report(), ("L", f"the use of {mark.isoformat()} was answered and is not stored"))
    history.answers.forgive("one")
    assert history.report().holds


def test_a_message_that_a_consumer_applies_twice(history: History) -> None:
    """By its sums, or under another id."""
    with closing(sqlite3.connect(history.queue)) as queue, queue:
        queue.execute("UPDATE tallies SET applied = applied + 1 WHERE type = 'license.activated'")
    only(history.report(), ("D", "queue: 5 of license.activated were applied, and 4 came"))


def test_a_message_that_comes_under_a_second_id(history: History) -> None:
    again = json.loads(messages(history.database)[4])
    with closing(opened(history.queue)) as queue:
        apply(queue, [json.dumps({**again, "id": "another"}).encode()])
    only(history.report(), ("D", "queue: position 5 of events was applied twice"))


def test_a_message_that_never_came(history: History) -> None:
    with closing(sqlite3.connect(history.queue)) as queue, queue:
        queue.execute("DELETE FROM applied WHERE number = 3")
        queue.execute("UPDATE tallies SET applied = applied - 1 WHERE type = 'license.activated'")
    only(history.report(), ("D", "queue: 1 rows of events never came, such as [3]"))


def _reply(status: int, **headers: str) -> Reply:
    given = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return Reply(status, CIMultiDictProxy(given), {"error": "made up"})


def test_a_5xx_that_is_not_503(history: History) -> None:
    history.answers.is_down = True
    history.answers.look_at("one", _reply(503, Retry_After="1"))
    history.answers.look_at("two", _reply(404))
    assert history.report().holds
    history.answers.look_at("three", _reply(500))
    only(history.report(), ("X", "three got 500"))


def test_a_503_of_a_server_that_is_not_down(history: History) -> None:
    history.answers.look_at("one", _reply(503, Retry_After="1"))
    only(history.report(), ("X", "one got 503 of a server that is not down"))


def test_a_503_that_does_not_say_when_to_come_again(history: History) -> None:
    history.answers.is_down = True
    history.answers.look_at("one", _reply(503))
    only(history.report(), ("X", "one got 503 without Retry-After"))


def test_a_checker_that_goes_on_finds_what_a_new_one_finds(history: History) -> None:
    """It reads only what is new, but sees where something is gone."""
    history.have_own()
    checker = Checker(history.database, queues=[history.queue])
    assert checker.check(history.answers).holds
    assert checker.check(history.answers).holds
    history.execute("DELETE FROM seat_changes WHERE ctid = (SELECT min(ctid) FROM seat_changes)")
    history.execute("DELETE FROM licensing_events WHERE notification_id = 3")
    only(
        checker.check(history.answers),
        ("L", "11 events were there, now it is 10"),
        ("P", "9 rows of seat_changes, and 10 in the fold of the log"),
    )
