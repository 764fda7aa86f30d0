"""`heartbeat`: many devices, each with an access token of its own, verified once and then remembered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

from bench import bodies
from bench.figures import Goal, Result
from bench.fill import activation_id, hardware_id, license_id
from bench.lab import Lab
from bench.sides import Side, by_latency, by_rate, load_note, measured, send_each
from infra.keyring import Keyring
from infra.tokens import TokenKind, Tokens

CONNECTIONS = 32
DEVICES = 15_000
"""At most: a device may send 60 heartbeats a minute: so many devices may send 15,000 a second between them."""
OURS, EMPTY = "api", "empty handler"
BODY = {"session_data": {"app_version": "4.2.0", "uptime": 3600}}


def measure(lab: Lab) -> Result:
    """Compare with an empty handler.

    A device sends twelve heartbeats with one token, and only the first has it verified: all are sent once before.
    """
    with ExitStack() as stack:
        ours = stack.enter_context(lab.api(lab.filled_database(lab.sizes.licences)))
        empty = stack.enter_context(lab.baseline("empty_aiohttp"))
        devices = min(DEVICES, lab.sizes.licences)
        lab.say(f"signing {devices:,} tokens")
        asked = [(bearer, BODY) for bearer in _bearers(lab, devices)]
        requests = bodies.pool(lab, "heartbeat", bodies.HEARTBEAT, asked)
        send_each(lab, ours, requests, devices, CONNECTIONS)
        served = measured(lab, {OURS: Side(ours, requests, CONNECTIONS), EMPTY: Side(empty, requests, CONNECTIONS)})
    result = Result("heartbeat")
    result.comparisons += [
        by_rate("32 connections", served, OURS, EMPTY, Goal(0.45)),
        by_latency("p99", served, OURS, EMPTY),
    ]
    result.notes.append(load_note(served))
    return result


def _bearers(lab: Lab, devices: int) -> Iterator[dict[str, str]]:
    tokens = Tokens(Keyring.open(lab.data_dir / "keys", None, None))
    now = datetime.now(UTC)
    for number in range(devices):
        token, _ = tokens.issue(
            TokenKind.ACCESS,
            license_id=license_id(number),
            hardware_id=hardware_id(number),
            activation_id=activation_id(number),
            now=now,
            lifetime=timedelta(hours=1),
        )
        yield {"Authorization": f"Bearer {token}"}
