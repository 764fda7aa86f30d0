"""`memory`: what an API process occupies with many verdicts in memory."""

from __future__ import annotations

from bench import bodies
from bench.figures import Comparison, Goal, Result
from bench.lab import Lab
from bench.load import WrongAnswers
from bench.scrape import gauge
from bench.sides import send_each

CONNECTIONS = 32
MB = 1e6


def measure(lab: Lab) -> Result:
    """Validate each of many devices once, and look at the process. Once: memory does not differ from round to round."""
    count = lab.sizes.cached
    asked = ((bodies.key_header(lab), bodies.validation(number)) for number in range(count))
    requests = bodies.pool(lab, "each-once", bodies.VALIDATE, asked)
    with lab.api(lab.filled_database(count)) as server:
        empty = server.resident_bytes() / MB
        send_each(lab, server, requests, count, CONNECTIONS)
        cached = gauge(server, "standings_cached")
        full = server.resident_bytes() / MB
    if cached < count:
        raise WrongAnswers(f"{cached:,.0f} verdicts are in memory, of {count:,}")
    result = Result("memory")
    result.comparisons += [
        Comparison(name=f"{count:,} verdicts", unit="MB", ours=(full,), goal=Goal(250, is_limit=True)),
        Comparison(name="just started", unit="MB", ours=(empty,)),
    ]
    return result
