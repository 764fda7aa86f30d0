"""`lizenzserver audit replay` and `audit diff`, and `licenses correct`, on what happened to a service."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
import typer

from api.schemas.common import rfc3339
from api.services import Services
from cli import log_messages
from cli.core import Workbench
from cli.log_messages import reading
from cli.moments import moment_of
from domain.facts import LicenseUpdated
from domain.history.past import Moment
from infra.postgres import Database
from infra.vault import Vault
from tests.cli.conftest import CommandLine, Result
from tests.support.client import Client
from tests.support.event_log import append
from tests.support.given import NOW, issued, recorded
from tests.support.rabbit import VirtualHost
from tests.support.random_life import RandomLife
from tests.support.seat_fold import TERMS, Event, Row, SeatFold, event_of

QUEUE = "auditors"
PERSONAL = ("customer_id", "email", "metadata")
EVENTS = "SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events ORDER BY 1"


class Audit:
    """Runs commands beside the service, in a thread."""

    def __init__(self, cli: CommandLine) -> None:
        self._cli = cli

    async def __call__(self, *arguments: str) -> Result:
        return await asyncio.to_thread(self._cli, *arguments)

    async def lines(self, *arguments: str) -> list[dict[str, Any]]:
        """Run a command of the group that prints lines of JSON."""
        done = await self("audit", *arguments)
        assert done.code == 0, done.err
        return [json.loads(line) for line in done.out.splitlines()]


@pytest.fixture
def audit(cli: CommandLine) -> Audit:
    return Audit(cli)


def positions(found: list[dict[str, Any]]) -> list[int]:
    return [int(event["sequence"]) for event in found]


async def some_life(client: Client, steps: int = 60) -> RandomLife:
    life = RandomLife(client, seed=5)
    await life.begin(4)
    for _ in range(steps):
        await life.step()
    return life


async def test_replay_tells_what_the_queue_gets(
    client: Client, audit: Audit, tmp_path: Path, virtual_host: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    await some_life(client)
    followed = await audit("tail", "--log", "events", "--from", "begin", "--no-follow")
    printed = await audit("audit", "replay")
    assert printed.out == followed.out
    count = len(printed.out.splitlines())
    assert printed.err == f"{count} messages, up to position {count} of the events log\n"

    file = tmp_path / "all.jsonl"
    written = await audit("audit", "replay", "--output", str(file), "--json")
    assert written.json == {"sent": count, "position": count}
    assert (file.read_text("utf-8"), file.stat().st_mode & 0o777) == (followed.out, 0o600)

    monkeypatch.setenv("AMQP_URL", virtual_host.url)
    with virtual_host.channel() as channel:
        channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    sent = await audit("audit", "replay", "--queue", QUEUE, "--from", "3", "--to", "7")
    assert (sent.code, sent.err) == (0, "5 messages, up to position 7 of the events log\n")
    taken = await asyncio.to_thread(virtual_host.take, QUEUE)
    assert [one.event for one in taken] == [json.loads(line) for line in followed.out.splitlines()[2:7]]


async def test_replay_of_a_part(client: Client, services: Services, audit: Audit) -> None:
    license = await client.new_license(customer_id="acme")
    await client.new_license(customer_id="other")
    second = await client.new_license(customer_id="acme")
    by_mail = await client.b_admin(
        "POST", "/licenses", {"email": "Ann@example.com", "product": "p", "edition": "e", "max_activations": 1}
    )
    await client.activate(license, "pc")
    await client.validate(license, "pc")
    everything = await audit.lines("replay")
    times = [event["time"] for event in everything]

    def only(*ids: str) -> list[int]:
        return [int(event["sequence"]) for event in everything if event["subject"] in ids]

    for name in (license["license_id"], license["license_key"], license["license_key"].lower()):
        assert positions(await audit.lines("replay", "--license", name)) == only(license["license_id"])
    of_acme = only(license["license_id"], second["license_id"])
    assert positions(await audit.lines("replay", "--customer", "acme")) == of_acme
    assert positions(await audit.lines("replay", "--customer", " ann@EXAMPLE.com")) == only(by_mail["license_id"])
    async with services.pool.connection() as connection:
        query = "SELECT subject_id FROM licenses WHERE license_id = %s"
        (row,) = await (await connection.execute(query, (license["license_id"],))).fetchall()
    assert positions(await audit.lines("replay", "--customer", str(row["subject_id"]))) == of_acme

    between = await audit.lines("replay", "--from", times[2], "--to", times[4])
    assert positions(between) == [3, 4]
    assert await audit.lines("replay", "--from", "2999-01-01") == []
    assert (
        positions(await audit.lines("replay", "--to", "2999-01-01", "--type", "*.activated"))
        == only(license["license_id"])[1:]
    )
    (used,) = await audit.lines("replay", "--log", "usage", "--customer", "acme", "--from", times[0])
    assert used["type"] == "license.validated"

    nobody = (("--license", "LIC-AAAAAAAAAAAA"), ("--license", str(UUID(int=5))), ("--customer", "nobody"))
    for wrong in (*nobody, ("--license", ""), ("--customer", "")):
        refused = await audit("audit", "replay", *wrong)
        assert (refused.code, refused.out, refused.err.count("\n")) == (1, "", 1)


async def test_replay_of_who_was_erased(client: Client, audit: Audit) -> None:
    """What is about a customer, or one of its licences, ends with the erasure; who has copies is told by it."""
    license, other = await client.new_license(customer_id="acme"), await client.new_license(customer_id="other")
    erased = await client.admin("POST", "/customers/acme/erase", {"reason": "asked"})
    (subject_id,) = erased["subject_ids"]
    for named in (("--license", license["license_id"]), ("--customer", subject_id)):
        assert [event["type"] for event in await audit.lines("replay", *named)] == ["license.issued", "customer.erased"]
    of_other = await audit.lines("replay", "--license", other["license_id"])
    assert [event["type"] for event in of_other] == ["license.issued"]


async def test_what_is_about_a_licence_is_found_wherever_it_is(
    client: Client, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = await some_life(client)
    everything = await audit.lines("replay")
    monkeypatch.setattr(log_messages, "WINDOW", 5)
    monkeypatch.setattr(log_messages, "BATCH", 2)
    for license in life.licenses:
        own = [int(event["sequence"]) for event in everything if event["subject"] == license["license_id"]]
        assert positions(await audit.lines("replay", "--license", license["license_id"])) == own
        part = await audit.lines("replay", "--license", license["license_id"], "--from", "7", "--to", str(own[-1] - 1))
        assert positions(part) == [position for position in own[:-1] if position >= 7]


async def test_looking_through_a_whole_log_may_take_its_time(database: Database) -> None:
    async with reading(database, "test") as connection:
        row = await (await connection.execute("SHOW statement_timeout")).fetchone()
    assert row == {"statement_timeout": "0"}


async def test_replay_between_times_whatever_their_order(client: Client, database: Database, audit: Audit) -> None:
    """Clocks of two processes differ a little, and what can't be read has no time."""
    await client.new_license()  # A service has a name from its first start on.
    license_id = uuid4()
    facts = issued(), *(LicenseUpdated(max_devices=number) for number in range(2, 7))
    times = [NOW + timedelta(hours=hours) for hours in (0, 3, 1, 4, 2, 5)]
    append(
        database,
        (
            recorded(license_id, version, fact, occurred_at=at)
            for version, (fact, at) in enumerate(zip(facts, times, strict=True), 1)
        ),
    )
    between = "--from", rfc3339(times[2]), "--to", rfc3339(times[3])
    assert positions(await audit.lines("replay", *between)) == [4, 5, 7]
    assert positions(await audit.lines("replay", *between, "--license", str(license_id))) == [4, 5, 7]
    with database.connect_owner() as connection:
        connection.execute("UPDATE lizenzserver.licensing_events SET state = '\\xff' WHERE notification_id = 5")
    done = await audit("audit", "replay", *between)
    assert (done.code, [int(json.loads(line)["sequence"]) for line in done.out.splitlines()]) == (0, [4, 7])
    assert "the event at position 5 can't be read, and is left out" in done.err


async def test_diff_is_what_two_folds_differ_in(client: Client, services: Services, audit: Audit) -> None:
    await some_life(client, 150)
    async with services.pool.connection() as connection:
        events = [event_of(row) for row in await (await connection.execute(EVENTS)).fetchall()]
    random = Random(6)
    for after, to in [(0, len(events)), *(sorted(random.sample(range(len(events)), 2)) for _ in range(5))]:
        found = await audit.lines("diff", str(after), str(to), "--json")
        licenses = {one.pop("license_id"): one for one in found if "license_id" in one}
        between = [event for event in events if after < event.position <= to]
        others = [one["event_id"] for one in found if "event_id" in one]
        assert others == [str(event.id) for event in between if event.topic.startswith("apikey.")]
        expected = differences(services.vault, events, after, to)
        assert licenses.keys() == expected.keys()
        for license_id, changes in expected.items():
            told = {(c["hardware_id"], c["field"]): (c["before"], c["after"]) for c in licenses[license_id]["changes"]}
            assert told == changes
            own = [event for event in between if str(event.aggregate) == license_id]
            assert licenses[license_id]["events"] == len(own)
            assert licenses[license_id]["to"]["event_id"] == str(own[-1].id)


Changes = dict[tuple[str | None, str], tuple[Any, Any]]


def differences(vault: Vault, events: list[Event], after: int, to: int) -> dict[str, Changes]:
    """Return what the test's own folds differ in, of each licence that something happened to."""
    folds = SeatFold(), SeatFold()
    for fold, last in zip(folds, (after, to), strict=True):
        for event in events:
            if event.position <= last:
                fold.apply(event)
    touched = {event.aggregate for event in events if after < event.position <= to} & folds[1].licenses.keys()
    found: dict[str, Changes] = {}
    for license_id in touched:
        before, now = (shown(vault, fold, license_id) for fold in folds)
        found[str(license_id)] = {
            name: (before.get(name), now.get(name))
            for name in before.keys() | now.keys()
            if before.get(name) != now.get(name)
        }
    return found


def shown(vault: Vault, fold: SeatFold, license_id: UUID) -> dict[tuple[str | None, str], Any]:
    row = fold.licenses.get(license_id)
    if row is None:
        return {}
    plain: list[str] = [*TERMS, "is_active", "is_test", "current_devices"]
    found: dict[tuple[str | None, str], Any] = {(None, name): row[name] for name in plain}
    found[None, "expires_at"] = row["expires_at"] and row["expires_at"].isoformat().replace("+00:00", "Z")
    found |= {(None, name): opened(vault, row, f"{name}_sealed", row) for name in PERSONAL}
    for (of, _), device in fold.devices.items():
        if of == license_id:
            name = device["hardware_id"]
            found[name, "is_active"] = device["is_active"]
            found[name, "activation_id"] = str(device["activation_id"])
            for field in ("device_name", "os_info"):
                found[name, field] = opened(vault, row, f"{field}_sealed", device)
    return found


def opened(vault: Vault, license: Row, name: str, row: Row) -> Any:
    return None if row[name] is None else vault.open(license["subject_id"], row[name])


async def test_diff_for_people(client: Client, database: Database, audit: Audit) -> None:
    license = await client.new_license(customer_id="acme", max_devices=1)
    await client.activate(license, "pc", fields={"device_name": "Anns"})
    await client.admin("PATCH", f"/licenses/{license['license_id']}", {"max_devices": 3})
    await client.admin("PATCH", f"/licenses/{license['license_id']}", {"max_devices": 1})
    done = await audit("audit", "diff", "2", "5")
    (activated,) = [event for event in await audit.lines("replay") if event["type"] == "license.activated"]
    assert done.out.splitlines() == [
        f"licence {license['license_id']} of acme: 3 events, the last at position 5",
        "  current_devices: 0 -> 1",
        "  pc: is_active: - -> yes",
        f"  pc: activation_id: - -> {activated['id']}",
        "  pc: device_name: - -> Anns",
    ]
    assert done.err == "between positions 2 and 5, something happened to 1\n"
    for customer_email in ("bob@example.com", license["email"]):
        await client.admin("PATCH", f"/licenses/{license['license_id']}", {"email": customer_email})
    done = await audit("audit", "diff", "3", "7")
    assert done.out.splitlines()[1:] == ["  nothing is different in the end"]
    end = "2040-01-01T00:00:00"
    for terms in ({"expires_at": f"{end}Z"}, {"expires_at": f"{end}.5Z", "metadata": {"ü": 1}}):
        await client.admin("PATCH", f"/licenses/{license['license_id']}", terms)
    done = await audit("audit", "diff", "8", "9")
    assert done.out.splitlines()[1:] == [
        f"  expires_at: {end}Z -> {end}.500000Z",
        '  metadata: - -> {"ü":1}',
    ]
    with database.connect() as connection:
        connection.execute("UPDATE data_subjects SET wrapped_key = NULL")
    done = await audit("audit", "diff", "0", "5")
    assert "apikey.created of " in done.out.splitlines()[0]
    assert "of erased (new): 4 events" in done.out
    assert "  pc: device_name: - -> erased" in done.out
    assert "acme" not in done.out
    assert "Anns" not in done.out


async def test_diff_between_times(client: Client, audit: Audit) -> None:
    for _ in range(3):
        await client.new_license()
    events = await audit.lines("replay")
    times = [event["time"] for event in events]
    (third,) = await audit.lines("diff", times[1], times[2], "--json")
    assert third["license_id"] == events[2]["subject"]  # Both moments have what happened at them.
    assert len(await audit.lines("diff", "2000-01-01", "2999-01-01", "--json")) == 4
    assert await audit.lines("diff", times[1], times[1], "--json") == await audit.lines("diff", "2", "2") == []
    for wrong, code in (((times[2], times[1]), 2), (("3", "2"), 2), (("1", "5"), 1), (("1", "tomorrow"), 2)):
        refused = await audit("audit", "diff", *wrong)
        assert (refused.code, refused.out) == (code, "")


@pytest.mark.parametrize(
    "text, moment",
    [
        ("0", Moment(position=0)),
        ("0047", Moment(position=47)),
        (str(2**63 - 1), Moment(position=2**63 - 1)),
        ("2026-03-01", Moment(time=datetime(2026, 3, 1, tzinfo=UTC))),
        ("2026-03-01T01:30:00+02:00", Moment(time=datetime(2026, 2, 28, 23, 30, tzinfo=UTC))),
        ("2026-03-01T01:30:00.000001Z", Moment(time=datetime(2026, 3, 1, 1, 30, 0, 1, tzinfo=UTC))),
    ],
)
def test_moments(text: str, moment: Moment) -> None:
    assert moment_of(text, "--from") == moment


@pytest.mark.parametrize(
    "text",
    [
        str(2**63),
        "-1",
        "",
        "1.5",
        "\u0661",
        "2026-03",
        "2026-02-30",
        "2026-03-01T12:00:00",
        "0001-01-01T00:00:00+01:00",
    ],
)
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        moment_of(text, "--from")


async def test_a_history_with_a_gap_is_no_history(client: Client, database: Database, audit: Audit) -> None:
    license = await client.new_license()
    for count in (2, 3, 4):
        await client.admin("PATCH", f"/licenses/{license['license_id']}", {"max_devices": count})
    with database.connect_owner() as connection:
        connection.execute("DELETE FROM lizenzserver.licensing_events WHERE originator_version = 3")
    refused = await audit("audit", "diff", "0", "5")
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert f"the events of {license['license_id']} make no history" in refused.err
    refused = await audit("audit", "diff", "0", "3")
    assert refused.code == 0


async def test_correct(client: Client, audit: Audit) -> None:
    license = await client.new_license()
    one = f"/licenses/{license['license_id']}"
    await client.admin("DELETE", one)
    (revoked,) = [event for event in await audit.lines("replay") if event["type"] == "license.deactivated"]
    arguments = "licenses", "correct", license["license_key"], revoked["id"], "--reason", "wrong customer"
    done = await audit(*arguments, "--json")
    assert (done.json["license_id"], done.json["undoes"]) == (license["license_id"], revoked["id"])
    assert (await client.admin("GET", one))["is_active"]
    last = (await client.admin("GET", f"{one}/history"))["events"][-1]
    assert (last["type"], last["undoes"], last["actor"]) == (
        "license.reactivated",
        revoked["id"],
        "job:licenses-correct",
    )
    assert last["data"]["reason"] == "wrong customer"
    refused = await audit(*arguments)
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "the licence is good again already" in refused.err
    refused = await audit("licenses", "correct", license["license_id"], str(UUID(int=5)), "--reason", "x")
    assert refused.err == "error: the licence has no such event\n"


async def test_correct_while_the_customer_is_erased(
    client: Client, database: Database, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    license = await client.new_license()
    await client.admin("DELETE", f"/licenses/{license['license_id']}")
    (revoked,) = [event for event in await audit.lines("replay") if event["type"] == "license.deactivated"]
    orders: list[Any] = []
    execute = Workbench.execute

    async def execute_late(bench: Workbench, order: Any) -> None:
        orders.append(order)
        with database.connect() as connection:
            connection.execute("UPDATE data_subjects SET wrapped_key = NULL, lookup_hash = NULL")
        await execute(bench, order)

    monkeypatch.setattr(Workbench, "execute", execute_late)
    done = await audit("licenses", "correct", license["license_key"], revoked["id"], "--reason", "wrong customer")
    assert (done.code, [len(order.sealed) for order in orders]) == (0, [1, 0]), done.err
    assert (await audit.lines("replay"))[-1]["data"]["undoes"] == revoked["id"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("audit", "replay", "--from", "x"),
        ("audit", "replay", "--from", "7", "--to", "5"),
        ("audit", "replay", "--from", "2026-01-02", "--to", "2026-01-02"),
        ("audit", "replay", "--from", "9" * 30),
        ("audit", "replay", "--from", "9" * 5000),
        ("audit", "replay", "--queue", ""),
        ("audit", "replay", "--queue", "ä" * 128),
        ("audit", "replay", "--license", "a", "--customer", "b"),
        ("audit", "replay", "--output", "a", "--queue", "b"),
        ("audit", "replay", "--json"),
        ("audit", "replay", "--log", "both"),
        ("audit", "diff", "1"),
        ("audit", "diff", "-1", "5"),
        ("licenses", "correct", "LIC-A", "no-id", "--reason", "x"),
        ("licenses", "correct", "LIC-A", str(UUID(int=5)), "--reason", " "),
    ],
)
def test_wrong_usage(bare: CommandLine, arguments: tuple[str, ...]) -> None:
    refused = bare(*arguments)
    assert (refused.code, refused.out) == (2, "")
