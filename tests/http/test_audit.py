"""Receipts and proofs over HTTP, checked by a program in another language, and by the tree's own rules."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from domain.audit.checkpoint import Checkpoint, VerifierKey, parse
from infra.notary_key import verify
from tests.support.client import Client, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

NODE = Path(__file__).parents[2] / "docs" / "examples" / "verify_receipt.mjs"
PATH = "/api/v1/audit"


async def text(client: Client, path: str) -> str:
    async with client.session.get(f"{client.base}{PATH}{path}") as response:
        body = await response.text()
        assert (response.status, response.headers["Content-Type"]) == (200, "text/plain; charset=utf-8"), body
        return body


async def signed(client: Client) -> Checkpoint:
    key = VerifierKey.parse(await text(client, "/key"))
    return parse(await text(client, "/checkpoint")).verified(key, verify)


async def an_event(client: Client) -> dict[str, Any]:
    """Activate a device, and return that event as the admin API shows it."""
    license = await client.new_license(customer_id="auditor's customer", email="ann@example.org")
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
