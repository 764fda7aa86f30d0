"""`validate`, cold: random licences among so many that hardly any is in memory."""

from __future__ import annotations

from contextlib import ExitStack

from bench import bodies
from bench.figures import Goal, Result
from bench.lab import Lab
from bench.sides import Side, by_latency, by_rate, load_note, measured

CONNECTIONS = 32
OURS, SELECT = "api", "indexed SELECT"


def measure(lab: Lab) -> Result:
    """Compare with one indexed SELECT a request, on the same database."""
    licences = lab.sizes.many
    requests = bodies.any_validation(lab, licences)
    with ExitStack() as stack:
        database = lab.filled_database(licences)
        ours = stack.enter_context(lab.api(database))
        base = stack.enter_context(lab.baseline("indexed_select", database.conninfo("baseline")))
        served = measured(lab, {OURS: Side(ours, requests, CONNECTIONS), SELECT: Side(base, requests, CONNECTIONS)})
    result = Result("validate-cold")
    result.comparisons += [
        by_rate(f"random of {licences:,} licences", served, OURS, SELECT, Goal(0.8)),
        by_latency("p99", served, OURS, SELECT),
    ]
    result.notes.append(load_note(served))
    return result
