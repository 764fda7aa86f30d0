"""`token`: two signatures a request, and a check that what they rest on is current."""

from __future__ import annotations

from contextlib import ExitStack

from bench import bodies
from bench.figures import Goal, Result
from bench.lab import Lab
from bench.sides import Side, by_latency, by_rate, load_note, measured

CONNECTIONS = 32
DEVICES = 5_000
OURS, EMPTY = "api", "empty handler"


def measure(lab: Lab) -> Result:
    """Compare with an empty handler."""
    devices = min(DEVICES, lab.sizes.licences)
    asked = [(bodies.key_header(lab), bodies.token_request(number)) for number in range(devices)]
    requests = bodies.pool(lab, "token", bodies.TOKEN, asked)
    with ExitStack() as stack:
        ours = stack.enter_context(lab.api(lab.filled_database(lab.sizes.licences)))
        empty = stack.enter_context(lab.baseline("empty_aiohttp"))
        served = measured(lab, {OURS: Side(ours, requests, CONNECTIONS), EMPTY: Side(empty, requests, CONNECTIONS)})
    result = Result("token")
    result.comparisons += [
        by_rate("32 connections", served, OURS, EMPTY, Goal(0.2)),
        by_latency("p99", served, OURS, EMPTY),
    ]
    result.notes.append(load_note(served))
    return result
