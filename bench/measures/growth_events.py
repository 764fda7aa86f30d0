"""`growth-events`: activate and deactivate on licences with long histories, against licences with hardly any.

Warm: the service has the licence in memory, as it has after any order. Cold: the first order for a licence since the
process started, for which it reads the last snapshot and the events after it. Histories are written straight into the
log; each has a snapshot, by the service, and as many events after it as there are on average. A licence is cold once a
process, so cold orders are counted one by one, over one connection, from Python, whose share is the same on both sides.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from itertools import count
from statistics import median

from bench import bodies
from bench.figures import Comparison, Curve, Goal, Point, Result, spread
from bench.fill import lengthen, license_key
from bench.lab import Lab
from bench.load import WrongAnswers
from bench.servers import Server
from bench.sides import Side, latencies, load_note, measured
from commands.snapshots import EVERY
from infra.postgres import Database

NEW = 500
"""Licences with two events. Enough that each gets few more while it is measured."""
EVENTS_OF_A_GROUP = 50_000
MOST_LICENCES, FEWEST_LICENCES = 200, 10
COLD_LICENCES = 5
"""Licences of each history that get their first order, in each round."""
FIRST_OF_ALL = 10
"""Licences besides that get an order before: what the first orders of a new process wait for is not asked here."""

_devices = count()


def measure(lab: Lab) -> Result:
    """Compare each length of history with new licences."""
    groups = _groups(lab.sizes.histories)
    with ExitStack() as stack:
        database = _database(lab, groups)
        cold = lab.alternate({"first orders": lambda: _cold(lab, database, groups)})["first orders"]
        server = stack.enter_context(lab.api(database))
        sides = {_name(events): Side(server, bodies.come_and_go(lab, part), 1) for events, part in groups.items()}
        served = measured(lab, sides)
    warm = {events: latencies(served[_name(events)], "p50") for events in groups}
    first = {events: tuple(one[events] for one in cold) for events in groups}
    result = Result("growth-events")
    most, least = max(groups), min(groups)
    result.comparisons += [
        _row("activate and deactivate, p50", warm, most, least, Goal(1.3, is_limit=True)),
        _row("first order after the start, p50", first, most, least, Goal(1.3, is_limit=True)),
    ]
    lines = {"in memory, p50": warm, "first order, p50": first}
    result.curves += [
        Curve(f"activate as histories grow: {name}", "events of the licence", "ms", {name: _points(found)})
        for name, found in lines.items()
    ]
    result.notes.append(load_note(served))
    return result


def _groups(histories: tuple[int, ...]) -> dict[int, range]:
    """Return which licences get how many events; 2 is what all have."""
    groups, first = {2: range(NEW)}, NEW
    for events in histories:
        size = min(MOST_LICENCES, max(FEWEST_LICENCES, EVENTS_OF_A_GROUP // events))
        groups[events] = range(first, first + size)
        first += size
    return groups


def _database(lab: Lab, groups: Mapping[int, range]) -> Database:
    last = max(part.stop for part in groups.values())
    database = lab.filled_database(max(lab.sizes.licences, last + FIRST_OF_ALL))
    long = {events: part for events, part in groups.items() if events > 2}  # noqa: PLR2004 - what fill gives each
    for events, part in long.items():
        lab.say(f"writing {len(part)} licences with {events:,} events each")
        lengthen(lab.settings, database, part, events - EVERY // 2 if events > EVERY else events)
    _have_snapshots(lab, database, [number for part in long.values() for number in part[:COLD_LICENCES]])
    for events, part in long.items():
        lengthen(lab.settings, database, part, events)
    return database


def _have_snapshots(lab: Lab, database: Database, numbers: Iterable[int]) -> None:
    """Have the service write the snapshots of long histories, as it does after their first order."""
    with lab.api(database) as server, _caller(lab, server) as activate:
        for number in numbers:
            activate(number)


def _cold(lab: Lab, database: Database, groups: Mapping[int, range]) -> dict[int, float]:
    """Start the service, and return the milliseconds of first orders, the median of some licences of each history."""
    with lab.api(database) as server, _caller(lab, server) as activate:
        last = max(part.stop for part in groups.values())
        for number in range(last, last + FIRST_OF_ALL):
            activate(number)
        # In turns: each order finds the process, and its sessions in the database, a little warmer than the one before.
        took: dict[int, list[float]] = {events: [] for events in groups}
        for turn in range(COLD_LICENCES):
            for events, part in groups.items():
                took[events].append(activate(part[turn]))
        return {events: median(found) for events, found in took.items()}


@contextmanager
def _caller(lab: Lab, server: Server) -> Iterator[Callable[[int], float]]:
    """Give a function that activates a new device on a licence, and returns the milliseconds."""
    headers = {"Content-Type": "application/json", **bodies.key_header(lab)}
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:

        def activate(number: int) -> float:
            body = {"license_key": license_key(number), "hardware_id": f"first-{next(_devices)}"}
            began = time.perf_counter()
            connection.request("POST", bodies.ACTIVATE, json.dumps(body), headers)
            response = connection.getresponse()
            content = response.read()
            took = (time.perf_counter() - began) * 1000
            if response.status != 201:  # noqa: PLR2004
                raise WrongAnswers(f"{response.status} {content[:300]!r}")
            return took

        yield activate


def _row(name: str, found: Mapping[int, tuple[float, ...]], most: int, least: int, goal: Goal) -> Comparison:
    return Comparison(
        name=f"{name}, of {most:,} events",
        unit="ms",
        ours=found[most],
        baseline=f"of {least:,} events",
        base=found[least],
        goal=goal,
    )


def _points(found: Mapping[int, tuple[float, ...]]) -> tuple[Point, ...]:
    return tuple(Point(events, spread(values)) for events, values in found.items())


def _name(events: int) -> str:
    return f"{events:,} events"
