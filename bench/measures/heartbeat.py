"""`heartbeat`: many devices, each with an access token of its own, verified once and then remembered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

from bench import bodies
from bench.figures import Goal, Result
from bench.fill import activation_id, hardware_id, license_id
from bench.lab import Lab
from bench.load import Requests, warm_up
from bench.servers import Server
from bench.sides import Side, by_latency, by_rate, load_note, measured
from infra.keyring import Keyring
from infra.tokens import TokenKind, Tokens

CONNECTIONS = 32
DEVICES = 15_000
"""A device may send 60 heartbeats a minute: so many devices may send 15,000 a second between them."""
OURS, EMPTY = "api", "empty handler"
BODY = {"session_data": {"app_version": "4.2.0", "uptime": 3600}}


def measure(lab: Lab) -> Result:
    """Compare with an empty handler."""
    with ExitStack() as stack:
        ours = stack.enter_context(lab.api(lab.filled_database(max(lab.sizes.licences, DEVICES))))
        empty = stack.enter_context(lab.baseline("empty_aiohttp"))
        lab.say(f"signing {DEVICES:,} tokens")
        requests = bodies.pool(lab, "heartbeat", bodies.HEARTBEAT, [(bearer, BODY) for bearer in _bearers(lab)])
        _verify_all(lab, ours, requests)
        served = measured(lab, {OURS: Side(ours, requests, CONNECTIONS), EMPTY: Side(empty, requests, CONNECTIONS)})
    result = Result("heartbeat")
    result.comparisons += [
        by_rate("32 connections", served, OURS, EMPTY, Goal(0.45)),
        by_latency("p99", served, OURS, EMPTY),
    ]
    result.notes.append(load_note(served))
    return result


def _verify_all(lab: Lab, ours: Server, requests: Requests) -> None:
    """Send each token at least once: a device sends twelve heartbeats with one, and only the first has it verified.

    Runs of wrk begin at different places, so that one round of them all could leave some out.
    """
    answered = 0
    while answered < 2 * DEVICES:
        answered += warm_up(ours.port, requests, CONNECTIONS, 2)
        lab.say(f"sending tokens for the first time: {answered:,} of {2 * DEVICES:,}")


def _bearers(lab: Lab) -> Iterator[dict[str, str]]:
    tokens = Tokens(Keyring.open(lab.data_dir / "keys", None, None))
    now = datetime.now(UTC)
    for number in range(DEVICES):
        token, _ = tokens.issue(
            TokenKind.ACCESS,
            license_id=license_id(number),
            hardware_id=hardware_id(number),
            activation_id=activation_id(number),
            now=now,
            lifetime=timedelta(hours=1),
        )
        yield {"Authorization": f"Bearer {token}"}
