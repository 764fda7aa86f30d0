"""Whoever was erased is in no file of the database or the broker, in no message, no export and no log line.

ERASED_CUSTOMERS says how many are erased; a few by default.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.postgres import Database
from tests.support.byte_search import found_in
from tests.support.client import Client, Secrets, eventually
from tests.support.cluster import Cluster
from tests.support.command import environment, run
from tests.support.rabbit import Rabbit
from tests.support.service import running, settings_for

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


@pytest.fixture
def bare_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A server of its own, which compresses nothing: what is in its files can be seen in them."""
    with Cluster(tmp_path) as running_cluster:
        running_cluster.execute("ALTER SYSTEM SET wal_compression = off")
        running_cluster.execute("SELECT pg_reload_conf()")
        yield running_cluster


def log_of(database: Database, up_to: int) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events"
            " WHERE notification_id <= %s ORDER BY notification_id",
            (up_to,),
        ).fetchall()
    return [tuple(row.values()) for row in rows]


def exported(environ: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = run(environ, *arguments)
    assert done.returncode == 0, done.stderr
    (folder / f"{'-'.join(arguments[:2])}.txt").write_text(done.stdout + done.stderr)
    return done


async def test_nothing_of_whoever_was_erased_is_anywhere(
    bare_cluster: Cluster, rabbit: Rabbit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = bare_cluster.new_database()
    with database.connect_owner() as owner:
        owner.execute("ALTER TABLE lizenzserver.licensing_events ALTER COLUMN state SET STORAGE EXTERNAL")
        owner.execute("ALTER TABLE lizenzserver.idempotency ALTER COLUMN answer_sealed SET STORAGE EXTERNAL")
    host = rabbit.new_host()
    data, out = tmp_path / "data", tmp_path / "out"
    out.mkdir()
    caplog.set_level("DEBUG")
    async with running(settings_for(data, AMQP_URL=host.url, LOG_LEVEL="debug"), database) as (services, client):

        async def has_exchange() -> bool:
            try:
                await asyncio.to_thread(host.new_queue, "analysts")
            except Exception:  # noqa: BLE001 - the relay makes the exchange in its own time
                return False
            return True

        await eventually(has_exchange)
        clients = [Client(client.session, client.base, client.secrets) for _ in range(CUSTOMERS)]
        for one in clients:
            one.api_key = client.api_key
        await asyncio.gather(*(live(one, number) for number, one in enumerate(clients)))
        with database.connect() as connection:
            row = connection.execute("SELECT max(notification_id) AS last FROM licensing_events").fetchone()
            wrapped = [
                bytes(found["wrapped_key"])
                for found in connection.execute("SELECT wrapped_key FROM data_subjects").fetchall()
            ]
        assert row is not None
        before = log_of(database, row["last"])
        kept = await client.admin("GET", f"/customers/{customer(0)}/export")
        assert MARK in str(kept.body), "until then it is there"
        assert NETWORK in str(kept.body)
        await asyncio.gather(*(erase(one, number) for number, one in enumerate(clients)))
        assert log_of(database, row["last"]) == before, "no event was changed: proofs go on to hold"
        assert services.usage.queued() == 0

        async def all_told() -> bool:
            with database.connect() as connection:
                found = connection.execute(
                    "SELECT bool_and(event_position >= (SELECT max(notification_id) FROM licensing_events)) AS told"
                    " FROM consumers WHERE consumer = 'relay'"
                ).fetchone()
            return bool(found and found["told"])

        await eventually(all_told, 60)
        # Before they are taken: the broker has them in its files.
        found = [(marker, f"broker/{file}") for marker, file in found_in(rabbit.folder, MARK, NETWORK)]
        assert list(found_in(rabbit.folder, SEEN)), "the search finds what is there"
        messages = await asyncio.to_thread(host.take, "analysts")
        assert "customer.erased" in {message.key for message in messages}
        (out / "messages.txt").write_text("\n".join(map(str, messages)))
        environ = environment(data, DATABASE_URL=database.url, ADMIN_API_KEY=Secrets().admin_api_key)
        for arguments in (
            ("licenses", "export", str(out / "licences.csv")),
            ("licenses", "list", "--limit", "1000", "--json"),
            ("usage", "export", "--out", str(out / "usage.jsonl"), "--licenses", str(out / "licences.jsonl")),
            ("tail", "--from", "begin", "--no-follow"),
            *(("check", view) for view in ("licenses", "usage", "devices-seen", "seats")),
            ("rebuild", "licenses"),
            ("licenses", "list", "--json"),
        ):
            await asyncio.to_thread(exported, environ, out, *arguments)
        listed = await client.admin("GET", "/licenses?per_page=100")
        (out / "list.txt").write_text(str(listed.body))
        (out / "log.txt").write_text(caplog.text)
    bare_cluster.execute("CHECKPOINT")
    places = {name: tmp_path / name for name in ("data", "out")} | {"server": bare_cluster.folder}
    found += [
        (marker, f"{name}/{file}")
        for name, folder in places.items()
        for marker, file in found_in(folder, MARK, NETWORK)
    ]
    assert found == []
    visible = {file.split("/")[0] + "/" + file.split("/")[1] for _, file in found_in(bare_cluster.folder, SEEN)}
    assert {"postgres/base", "postgres/pg_wal"} <= visible, "the search finds what is there"
    assert {"messages.txt", "licences.csv", "tail---from.txt"} <= {file for _, file in found_in(out, SEEN)}
    # With the service key, a wrapped key that is left over would open all of it: this is how to be rid of it.
    bare_cluster.execute("VACUUM FULL lizenzserver.data_subjects", database)
    bare_cluster.execute("CHECKPOINT")
    tables = bare_cluster.folder / "postgres" / "base"
    left = [key for key in wrapped if any(key in file.read_bytes() for file in tables.rglob("*") if file.is_file())]
    assert left == []
