"""Receipts and proofs over HTTP, checked by a program in another language, and by the tree's own rules."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from api.services import Services
from cli.audit_verify import of_database
from commands.event_mapper import EventMapper
from domain.audit.checkpoint import Checkpoint, VerifierKey, parse
from domain.audit.merkle import is_consistent, root_by_inclusion
from infra.notary_key import verify
from infra.postgres import Database
from tests.support.client import Client, eventually
from tests.support.cluster import Cluster
from tests.support.event_log import lives_of_licenses
from tests.support.patience import running_patiently
from tests.support.service import settings_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

NODE = Path(__file__).parents[2] / "docs" / "examples" / "verify_receipt.mjs"
PATH = "/api/v1/audit"
_TEXT = "convert_from(state, 'UTF8')"
_IDS = f"SELECT notification_id, {_TEXT}::json ->> 'event_id' AS id FROM licensing_events"


@pytest.fixture(scope="module")
def database(cluster: Cluster) -> Iterator[Database]:
    fresh = cluster.new_database()
    yield fresh
    cluster.drop(fresh)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(
    database: Database, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Services, Client]]:
    """Give a service whose notary signs several times a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workers.notary.SIGN_SECONDS", 0.2)
        patch.setattr("workers.notary.LOOK_SECONDS", 0.1)
        async with running_patiently(settings_for(tmp_path_factory.mktemp("data")), database) as parts:
            yield parts


async def text(client: Client, path: str) -> str:
    headers = {"X-Forwarded-For": client.address}
    async with client.session.get(f"{client.base}{PATH}{path}", headers=headers) as response:
        body = await response.text()
        assert (response.status, response.headers["Content-Type"]) == (200, "text/plain; charset=utf-8"), body
        return body


async def signed(client: Client) -> Checkpoint:
    key = VerifierKey.parse(await text(client, "/key"))
    return parse(await text(client, "/checkpoint")).verified(key, verify)


async def an_event(client: Client, customer_id: str = "auditor's customer") -> dict[str, Any]:
    """Activate a device, and return that event as the admin API shows it."""
    license = await client.new_license(customer_id=customer_id, email="ann@example.org")
    assert (await client.activate(license, "pc", fields={"device_name": "Ann's PC"})).status == 201
    events = (await client.admin("GET", f"/licenses/{license['license_id']}/events"))["events"]
    found: dict[str, Any] = next(event for event in events if event["type"] == "license.activated")
    return found


async def receipt_of(client: Client, event: dict[str, Any]) -> Any:
    async def covered() -> Any:
        reply = await client.request(
            "GET", f"{PATH}/receipts/{event['event_id']}", x_admin_api_key=client.secrets.admin_api_key
        )
        if reply.status == 409:
            assert (reply["error_code"], reply.headers["Retry-After"]) == ("NOT_YET_SIGNED", "10")
            return None
        assert reply.status == 200, reply
        return reply.body

    return await eventually(covered, 30)


def by_node(folder: Path, receipt: Any, key: str) -> subprocess.CompletedProcess[str]:
    file = folder / "receipt.json"
    file.write_text(json.dumps(receipt), "utf-8")
    return subprocess.run(["node", str(NODE), str(file), key], capture_output=True, text=True, check=False, timeout=30)


async def test_a_receipt_is_verified_by_a_program_that_knows_nothing_of_us(client: Client, tmp_path: Path) -> None:
    event = await an_event(client)
    receipt = await receipt_of(client, event)
    key = await text(client, "/key")
    done = by_node(tmp_path, receipt, key)
    assert (done.returncode, done.stderr) == (0, "")
    first, second, third = done.stdout.splitlines()
    assert first.startswith(f"good: event {event['event_id']} is number {receipt['leaf_index'] + 1} of the ")
    assert "license.activated" in second
    assert '"hardware_id":"pc"' in third
    assert b"Ann" not in json.dumps(receipt).encode() + base64.b64decode(receipt["leaf"])


Spoil = Callable[[dict[str, Any]], Any]


def _spoilt(leaf: str, at: int) -> str:
    raw = bytearray(base64.b64decode(leaf))
    raw[at] ^= 1
    return base64.b64encode(raw).decode()


SPOILT: dict[str, tuple[Spoil, str]] = {
    "leaf": (lambda r: r.update(leaf=_spoilt(r["leaf"], -2)), "not in the log"),
    "position": (lambda r: r.update(leaf=_spoilt(r["leaf"], 7)), "not in the log"),
    "index": (lambda r: r.update(leaf_index=r["leaf_index"] + 1), "bad: "),
    "proof": (lambda r: r["proof"].__setitem__(0, _spoilt(r["proof"][0], 0)), "not in the log"),
    "hash": (lambda r: r["proof"].__setitem__(0, "AAAA"), "no hash"),
    "short": (lambda r: r["proof"].pop(), "too short"),
    "long": (lambda r: r["proof"].append(r["proof"][0]), "too long"),
    "size": (lambda r: r.update(checkpoint=re.sub(r"\n\d+\n", "\n9999\n", r["checkpoint"])), "signature is wrong"),
    "signature": (lambda r: r.update(checkpoint=r["checkpoint"].replace("\u2014", "-")), "not signed by this key"),
    "origin": (lambda r: r.update(checkpoint="x" + r["checkpoint"]), "the checkpoint is of x"),
    "event_id": (lambda r: r.update(event_id="6f1c8d0e-5b1d-4e0c-8a35-0d3a5f7c2b90"), "another event"),
    "type": (lambda r: r.update(type="license.issued"), "other than its leaf"),
}


async def test_no_spoilt_receipt_is_verified(client: Client, tmp_path: Path) -> None:
    for _ in range(3):
        event = await an_event(client)
    receipt, key = await receipt_of(client, event), await text(client, "/key")
    for what, (spoil, why) in SPOILT.items():
        spoilt = json.loads(json.dumps(receipt))
        spoil(spoilt)
        done = by_node(tmp_path, spoilt, key)
        assert (done.returncode, done.stdout) == (1, ""), what
        assert why in done.stderr, what
    other = str(VerifierKey(VerifierKey.parse(key).name, bytes(32)))
    assert "not signed by this key" in by_node(tmp_path, receipt, other).stderr


async def test_erasing_changes_nothing_that_was_signed(client: Client, database: Database, tmp_path: Path) -> None:
    event = await an_event(client, "erased")
    before, key = await receipt_of(client, event), await text(client, "/key")
    old = await signed(client)
    assert (await client.admin("POST", "/customers/erased/erase?by=customer_id", {"reason": "asked"})).status == 200

    async def is_signed() -> bool:
        return (await signed(client)).size > old.size

    await eventually(is_signed, 30)
    after = await receipt_of(client, event)
    assert (after["leaf"], after["leaf_index"]) == (before["leaf"], before["leaf_index"])
    for receipt in (before, after):
        assert by_node(tmp_path, receipt, key).returncode == 0
    proof = await client.request("GET", f"{PATH}/proof/consistency?from_size={old.size}")
    assert base64.b64decode(proof["from_root"]) == old.root
    found = await asyncio.to_thread(of_database, database, [old], VerifierKey.parse(key))
    assert (found.report.faults, found.report.events > old.size) == ([], True)


async def test_inclusion_and_consistency_of_sizes_all_along(client: Client, services: Services) -> None:
    """Over several tiles, also of sizes in the middle of what is a whole tile by now."""
    async with services.pool.connection() as connection:
        for event in lives_of_licenses(700):
            stored = EventMapper().to_stored_event(event)
            columns = (stored.originator_id, stored.originator_version, stored.topic, stored.state)
            await connection.execute(
                "INSERT INTO licensing_events (originator_id, originator_version, topic, state)"
                " VALUES (%s, %s, %s, %s)",
                columns,
            )
        found = await (await connection.execute(f"{_IDS} ORDER BY notification_id")).fetchall()
    await receipt_of(client, {"event_id": found[-1]["id"]})
    newest, addresses = await signed(client), itertools.count(1)

    async def proved(what: str) -> Any:
        client.address = f"10.77.{next(addresses)}.1"  # to be limited by none
        reply = await client.request("GET", f"{PATH}/proof/{what}")
        assert reply.status == 200, reply
        return reply

    for index in (0, 1, 254, 255, 256, 511, 512, len(found) - 1):
        for size in {None, index + 1, min(index + 2, len(found)), (index // 256 + 1) * 256, 600}:
            if size is not None and not index < size <= newest.size:
                continue
            query = f"event_id={found[index]['id']}" + (f"&size={size}" if size else "")
            proof = await proved(f"inclusion?{query}")
            assert (proof["leaf_index"], proof["position"]) == (index, found[index]["notification_id"])
            hashes, leaf = map(base64.b64decode, proof["proof"]), base64.b64decode(proof["leaf_hash"])
            root = root_by_inclusion(leaf, index, proof["size"], list(hashes))
            assert root == base64.b64decode(proof["root"])
            if size is None and (proof["size"], root) != (newest.size, newest.root):
                # Detection may have found something, and the notary has signed it.
                later = await signed(client)
                assert newest.size < later.size
                assert (proof["size"], root) == (later.size, later.root)
    sizes = [1, 2, 255, 256, 257, 600, newest.size]
    for old, new in itertools.combinations_with_replacement(sizes, 2):
        proof = await proved(f"consistency?from_size={old}&to_size={new}")
        roots = [base64.b64decode(proof[name]) for name in ("from_root", "to_root")]
        hashes = map(base64.b64decode, proof["proof"])
        assert is_consistent(old, roots[0], new, roots[1], list(hashes))
        assert new != newest.size or roots[1] == newest.root


@pytest.mark.parametrize(
    "query, status, code",
    [
        ("inclusion?event_id={id}&size=999999999", 400, "VALIDATION_ERROR"),
        ("inclusion?event_id={id}&size=0", 400, "VALIDATION_ERROR"),
        ("inclusion?event_id=6f1c8d0e-5b1d-4e0c-8a35-0d3a5f7c2b90", 404, "NOT_FOUND"),
        ("inclusion?event_id=nonsense", 400, "VALIDATION_ERROR"),
        ("inclusion", 400, "VALIDATION_ERROR"),
        ("consistency?from_size=5&to_size=4", 400, "VALIDATION_ERROR"),
        ("consistency?from_size=1&to_size=999999999", 400, "VALIDATION_ERROR"),
        ("consistency?from_size=0", 400, "VALIDATION_ERROR"),
    ],
)
async def test_what_can_not_be_proved(client: Client, query: str, status: int, code: str) -> None:
    event = await an_event(client)
    await receipt_of(client, event)
    reply = await client.request("GET", f"{PATH}/proof/{query.format(id=event['event_id'])}")
    assert (reply.status, reply["error_code"]) == (status, code)


async def test_the_key_that_is_given_is_the_one_that_has_signed(client: Client, services: Services) -> None:
    """The service's role may append keys that are none, or somebody else's."""
    await receipt_of(client, await an_event(client))
    right = await text(client, "/key")
    async with services.pool.connection() as connection:
        for wrong in ("nonsense", str(VerifierKey(VerifierKey.parse(right).name, bytes(32)))):
            later = "clock_timestamp() + interval '1 day'"
            await connection.execute(f"INSERT INTO audit_keys VALUES (%s, {later})", (wrong,))
    assert await text(client, "/key") == right
    assert (await signed(client)).size > 0


async def test_a_receipt_needs_the_admin_key_and_an_event(client: Client) -> None:
    event = await an_event(client)
    assert (await client.request("GET", f"{PATH}/receipts/{event['event_id']}")).status == 401
    for unknown in ("6f1c8d0e-5b1d-4e0c-8a35-0d3a5f7c2b90", "nonsense"):
        key = client.secrets.admin_api_key
        assert (await client.request("GET", f"{PATH}/receipts/{unknown}", x_admin_api_key=key)).status == 404


async def test_of_an_event_that_was_changed_there_is_no_receipt(client: Client, services: Services) -> None:
    """Neither of one in the tree's edge, nor of one whose hash is in a tile since long."""
    event = await an_event(client)
    await receipt_of(client, event)
    key = client.secrets.admin_api_key
    async with services.pool.connection() as connection:
        dsn = connection.info.dsn
        old = await (await connection.execute(f"{_IDS} ORDER BY notification_id OFFSET 100 LIMIT 1")).fetchone()
        tile = await (await connection.execute("SELECT count(*) AS n FROM audit_tiles")).fetchone()
    assert old is not None
    assert tile is not None
    assert tile["n"] >= 2
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as owner:
        await owner.execute("SET ROLE NONE")
        for id in (event["event_id"], old["id"]):
            pattern = (f"%{id}%",)
            await owner.execute(f"UPDATE licensing_events SET state = state || ' ' WHERE {_TEXT} LIKE %s", pattern)
            paths = [f"receipts/{id}", f"proof/inclusion?event_id={id}"]
            for reply in [await client.request("GET", f"{PATH}/{path}", x_admin_api_key=key) for path in paths]:
                assert (reply.status, reply["error_code"]) == (500, "HISTORY_ALTERED")
            shorter = "substring(state FOR octet_length(state) - 1)"
            await owner.execute(f"UPDATE licensing_events SET state = {shorter} WHERE {_TEXT} LIKE %s", pattern)
            await receipt_of(client, {"event_id": id})
