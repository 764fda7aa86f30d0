"""Whoever was erased is in no file of the database or the broker, in no message, no export and no log line.

ERASED_CUSTOMERS says how many are erased; a few by default.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pika.exceptions import AMQPError

import workers.notary
from infra.postgres import Database
from tests.support.byte_search import found_in
from tests.support.client import Client, Secrets, eventually
from tests.support.cluster import Cluster
from tests.support.command import environment, run
from tests.support.patience import running_patiently
from tests.support.rabbit import Rabbit, VirtualHost
from tests.support.service import settings_for

CUSTOMERS = int(os.environ.get("ERASED_CUSTOMERS", "4"))
MARK = "quokkazwoelf"
"""In all that is personal but addresses."""
NETWORK = "2001:db8:7731:"
"""How all addresses begin."""
SEEN = "sichtbarprodukt"
"""In what is not personal: the search finds it."""


def customer(number: int) -> str:
    return f"kundin {MARK} {number}"


async def live(client: Client, number: int) -> None:
    """Do all that stores personal data of a customer."""
    client.address = f"{NETWORK}{number:x}::1"
    email = f"{MARK}.{number}@{MARK}.example"
    license = await client.new_license(
        customer_id=customer(number),
        email=email,
        metadata={"invoice": f"{MARK}-{number}", "street": f"Gasse {MARK} {number}"},
        product=f"{SEEN}-{number}",
    )
    path = f"/licenses/{license['license_id']}"
    device = {"device_name": f"PC von {MARK} {number}", "os_info": {"name": f"{MARK}-os", "version": str(number)}}
    assert (await client.activate(license, "hw-1", fields=device, idempotency_key=f"a-{number}")).status == 201
    token = (await client.tokens(license, "hw-1"))["access_token"]
    session = {"session_data": {"document": f"Testament {MARK} {number}"}}
    assert (await client.bearer("/api/v1/license/heartbeat", token, session)).status == 200
    assert (await client.validate(license, "hw-1")).status == 200
    assert (await client.validate(license, "hw-unknown")).status == 403
    moved = {"from_hardware_id": "hw-1", "to_hardware_id": "hw-2", "reason": f"{MARK} {number} says so"}
    assert (await client.admin("POST", f"{path}/transfer", moved)).status == 200
    event_id = (await client.admin("GET", f"{path}/events"))["events"][0]["event_id"]
    mistake = {"event_id": event_id, "reason": f"{MARK} {number} does not say so"}
    assert (await client.admin("POST", f"{path}/corrections", mistake, idempotency_key=f"c-{number}")).status == 200
    changes = {"email": f"neu.{email}", "metadata": {"note": f"{MARK} {number}"}}
    assert (await client.admin("PATCH", path, changes, idempotency_key=f"p-{number}")).status == 200
    body = {"email": f"b.{email}", "product": f"{SEEN}-b", "edition": "Pro", "max_activations": 2}
    second = (await client.b_admin("POST", "/licenses", body, idempotency_key=f"b-{number}")).body
    named = {"license_key": second["license_key"], "email": f"b.{email}", "device_hash": "dh"}
    signed = await client.b_client("POST", "/activate", {**named, "device_name": f"Mac von {MARK} {number}"})
    assert signed.status == 200


async def erase(client: Client, number: int) -> None:
    reason = {"reason": f"{MARK} {number} asked for it"}
    for name, by in ((customer(number), "customer_id"), (f"b.{MARK}.{number}@{MARK}.example", "email")):
        erased = await client.admin("POST", f"/customers/{name}/erase?by={by}", reason)
        assert (erased.status, len(erased["license_ids"])) == (200, 1)


async def some_at_once(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Have work done, no more at once than the service has connections for."""
    turns = asyncio.Semaphore(8)

    async def in_turn(one: Coroutine[Any, Any, None]) -> None:
        async with turns:
            await one

    await asyncio.gather(*map(in_turn, work))


@pytest.fixture
def bare_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A server of its own, which compresses nothing: what is in its files can be seen in them."""
    with Cluster(tmp_path) as running_cluster:
        running_cluster.execute("ALTER SYSTEM SET wal_compression = off")
        running_cluster.execute("SELECT pg_reload_conf()")
        yield running_cluster


def log_of(database: Database) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        rows = connection.execute("SELECT * FROM licensing_events ORDER BY notification_id").fetchall()
    return [tuple(row.values()) for row in rows]


def keys_of(database: Database) -> list[bytes]:
    with database.connect() as connection:
        return [bytes(row["wrapped_key"]) for row in connection.execute("SELECT * FROM data_subjects").fetchall()]


SIGNED_BEFORE = "signed-before.txt"
"""A checkpoint from before anybody was erased, which an auditor has kept."""
KEY = "0-audit-key.txt"

COMMANDS = (
    ("audit", "key"),
    ("audit", "replay", "--output", "replay.jsonl"),
    ("audit", "replay", "--log", "usage"),
    ("audit", "diff", "0", "2100-01-01", "--json"),
    ("audit", "diff", "0", "2100-01-01"),
    ("audit", "export", "--output", "events.jsonl"),
    ("audit", "verify"),
    ("audit", "verify", "--checkpoint", SIGNED_BEFORE),
    ("audit", "verify", "--export", "events.jsonl", "--checkpoint", SIGNED_BEFORE, "--key", KEY),
    ("licenses", "export", "licences.csv"),
    ("licenses", "list", "--limit", "1000", "--json"),
    ("usage", "export", "--out", "usage.jsonl", "--licenses", "licences.jsonl"),
    ("tail", "--from", "begin", "--no-follow"),
    ("rebuild", "licenses"),
    *(("check", view) for view in ("licenses", "seats")),
    ("licenses", "list", "--json"),
)
"""All that writes down what is stored, or checks it, and the views made anew from the log."""


async def export(environ: dict[str, str], out: Path) -> None:
    """Run all of these; what they write and print is in the folder then."""
    for number, arguments in enumerate(COMMANDS):
        named = [str(out / one) if "." in one else one for one in arguments]
        done = await asyncio.to_thread(run, environ, *named)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        (out / f"{number}-{arguments[0]}-{arguments[1]}.txt").write_text(done.stdout + done.stderr)


async def all_signed(database: Database, data: Path) -> str:
    """Return the notary's last checkpoint, once it covers all events."""

    async def is_signed() -> bool:
        with database.connect() as connection:
            row = connection.execute(
                "SELECT coalesce((SELECT max(position) FROM audit_checkpoints), 0)"
                " >= (SELECT max(notification_id) FROM licensing_events) AS signed"
            ).fetchone()
        return bool(row and row["signed"])

    await eventually(is_signed, 60)
    return (data / "audit" / "checkpoint").read_text()


async def take_all(host: VirtualHost, database: Database, broker: Path, out: Path) -> list[tuple[str, str]]:
    """Take what analysts are told, once all is; return what the broker's files have of whoever was erased."""

    async def is_all_told() -> bool:
        with database.connect() as connection:
            row = connection.execute(
                "SELECT event_position >= (SELECT max(notification_id) FROM licensing_events) AS told"
                " FROM consumers WHERE consumer = 'relay'"
            ).fetchone()
        return bool(row and row["told"])

    await eventually(is_all_told, 60)
    # Before they are taken: the broker has them in its files.
    found = [(marker, f"broker/{file}") for marker, file in found_in(broker, MARK, NETWORK)]
    assert list(found_in(broker, SEEN)), "the search finds what is there"
    messages = await asyncio.to_thread(host.take, "analysts")
    assert "customer.erased" in {message.key for message in messages}
    (out / "messages.txt").write_text("\n".join(map(str, messages)))
    return found


async def listen(host: VirtualHost) -> None:
    """Bind a queue of an analyst's, once the relay has made the exchange."""

    async def is_bound() -> bool:
        with suppress(AMQPError):
            await asyncio.to_thread(host.new_queue, "analysts")
            return True
        return False

    await eventually(is_bound, 30)


async def test_nothing_of_whoever_was_erased_is_anywhere(
    bare_cluster: Cluster,
    rabbit: Rabbit,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers.notary, "SIGN_SECONDS", 0.5)
    database, host = bare_cluster.new_database(), rabbit.new_host()
    with database.connect_owner() as owner:
        owner.execute("ALTER TABLE lizenzserver.licensing_events ALTER COLUMN state SET STORAGE EXTERNAL")
        owner.execute("ALTER TABLE lizenzserver.idempotency ALTER COLUMN answer_sealed SET STORAGE EXTERNAL")
    data, out = tmp_path / "data", tmp_path / "out"
    out.mkdir()
    caplog.set_level("DEBUG")
    settings = settings_for(data, AMQP_URL=host.url, LOG_LEVEL="debug")
    async with running_patiently(settings, database) as (services, client):
        await listen(host)
        clients = [Client(client.session, client.base, client.secrets) for _ in range(CUSTOMERS)]
        for one in clients:
            one.api_key = client.api_key
        await some_at_once(live(one, number) for number, one in enumerate(clients))
        (out / SIGNED_BEFORE).write_text(await all_signed(database, data))
        before, wrapped = log_of(database), keys_of(database)
        # As autovacuum does, which keeps samples in a catalogue.
        bare_cluster.execute("ANALYZE", database)
        kept = str((await client.admin("GET", f"/customers/{customer(0)}/export")).body)
        assert MARK in kept, "until then it is there"
        assert NETWORK in kept
        await some_at_once(erase(one, number) for number, one in enumerate(clients))
        assert log_of(database)[: len(before)] == before, "no event was changed: proofs go on to hold"
        assert services.usage.queued() == 0, "what has been answered is stored"
        found = await take_all(host, database, rabbit.folder, out)
        (out / "signed.txt").write_text(await all_signed(database, data))
        await export(environment(data, DATABASE_URL=database.url, ADMIN_API_KEY=Secrets().admin_api_key), out)
        (out / "list.txt").write_text(str((await client.admin("GET", "/licenses?per_page=100")).body))
        (out / "log.txt").write_text(caplog.text)
    bare_cluster.execute("CHECKPOINT")
    found += list(found_in(tmp_path, MARK, NETWORK))
    assert found == []
    visible = {file for _, file in found_in(bare_cluster.folder, SEEN)}
    assert {"base", "pg_wal"} <= {file.split("/")[1] for file in visible}, "the search finds what is there"
    told = {"messages.txt", "licences.csv", "replay.jsonl", "3-audit-diff.txt", "4-audit-diff.txt", "events.jsonl"}
    assert told <= {file for _, file in found_in(out, SEEN)}
    # With the service key, a wrapped key that is left over would open all of it: this is how to be rid of it.
    bare_cluster.execute("VACUUM FULL lizenzserver.data_subjects", database)
    bare_cluster.execute("CHECKPOINT")
    tables = bare_cluster.folder / "postgres" / "base"
    left = [key for key in wrapped if any(key in file.read_bytes() for file in tables.rglob("*") if file.is_file())]
    assert left == []
