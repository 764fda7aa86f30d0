"""`processes`: activate by two API processes on one database, against one; no seat too many, and nothing lost."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

from bench import bodies
from bench.figures import Goal, Result
from bench.invariants import check_seats, events_of
from bench.lab import Lab
from bench.load import WrongAnswers, run_wrk
from bench.scrape import answers
from bench.servers import Server
from bench.sides import Side, by_latency, by_rate, load_note, measured

CONNECTIONS = 128
TWO, ONE = "two processes", "one process"
RACED_LICENCES = 50
RACED_SEATS = 20
MOST_RACES = 20


def measure(lab: Lab) -> Result:
    """Compare under load without refusals; then have two processes race for the last seats of a few licences."""
    licences = lab.sizes.licences
    requests = bodies.new_activation(lab, licences)
    with ExitStack() as stack:
        alone, shared = lab.filled_database(licences), lab.filled_database(licences)
        one = stack.enter_context(lab.api(alone))
        first, second = (stack.enter_context(lab.api(shared)) for _ in range(2))
        before = events_of(shared)
        served = measured(
            lab,
            {
                TWO: Side(first, requests, CONNECTIONS, others=[second]),
                ONE: Side(one, requests, CONNECTIONS),
            },
        )
        note = check_seats(shared, before, sum(each.load.good for each in served[TWO]))
    result = Result("processes")
    result.comparisons += [
        by_rate("activate, 128 connections", served, TWO, ONE, Goal(1.2)),
        by_latency("p99", served, TWO, ONE),
    ]
    result.notes += [note, _race(lab), load_note(served)]
    return result


def _race(lab: Lab) -> str:
    """Have two processes give away more seats than there are; return what was found. Raises WrongAnswers."""
    database = lab.filled_database(RACED_LICENCES, RACED_SEATS)
    requests = bodies.new_activation(lab, RACED_LICENCES)
    free = RACED_LICENCES * (RACED_SEATS - 1)
    before, answered = events_of(database), 0
    with lab.api(database) as first, lab.api(database) as second:
        for races in range(1, MOST_RACES + 1):  # noqa: B007 - it is asked for afterwards
            load = run_wrk(first.port, requests, CONNECTIONS, lab.sizes.seconds, second.port, refusals=True)
            answered += load.good
            if load.good == 0:
                break
        refused = refusals([first, second], cut_off=races * CONNECTIONS)
    note = check_seats(database, before, answered)
    if (taken := events_of(database) - before) != free:
        raise WrongAnswers(f"S: {taken:,} of {free:,} raced seats were given away")
    return f"raced for {free:,} last seats, two processes: {note}; {refused:,} refused, every seat is taken"


def refusals(servers: list[Server], cut_off: int) -> int:
    """Return how many were refused for want of a seat. Raises WrongAnswers where anything else was answered.

    But for 400, to so many requests at most: when wrk stops, it closes connections on which it still waits.
    """
    found: Counter[int] = Counter()
    for server in servers:
        found += answers(server)
    strange = {status: count for status, count in found.items() if status not in {200, 201, 400, 409}}
    if strange or found[400] > cut_off:
        raise WrongAnswers(f"the race for seats was answered with {dict(found)}")
    return found[409]
