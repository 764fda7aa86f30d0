"""`activate`: new devices on random licences, each durable before it is answered."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack

from bench import bodies
from bench.figures import Comparison, Goal, Result
from bench.invariants import check_seats, events_of
from bench.lab import Lab
from bench.servers import ROOT
from bench.sides import Served, Side, by_latency, by_rate, load_note, measured, rates
from bench.workers import WITH_WORKERS, with_workers
from infra.postgres import Database

CONNECTIONS = 128
OURS, CRUD, ROWS = "api", "CRUD server", "one row, one commit"
LOADED = "load, decide, save"


def measure(lab: Lab) -> Result:
    """Compare with a CRUD server under load, with single inserts, and report what running workers cost."""
    from bench.baselines import crud_tables  # noqa: PLC0415 - the other measures do without SQLAlchemy

    licences = lab.sizes.licences
    requests = bodies.new_activation(lab, licences)
    with ExitStack() as stack:
        database = lab.filled_database(licences)
        ours = stack.enter_context(lab.api(database))
        plain = lab.new_database()
        crud_tables.prepare(plain.url, licences, lab.api_key, seats=1000)
        crud = stack.enter_context(lab.baseline("crud_server", plain.url))
        sides = {OURS: Side(ours, requests, CONNECTIONS), CRUD: Side(crud, requests, CONNECTIONS)}
        if lab.sizes.workers:
            sides |= with_workers(lab, stack, requests, CONNECTIONS)
        before = events_of(database)
        rows = _rows(lab, _bytes_of_events(database))
        found = lab.alternate({**{name: _running(lab, side) for name, side in sides.items()}, ROWS: rows})
        note = check_seats(database, before, sum(one.load.good for one in _served(found[OURS])))
    served = {name: _served(found[name]) for name in sides}
    result = Result("activate")
    result.comparisons += [
        by_rate("128 connections", served, OURS, CRUD, Goal(15)),
        Comparison(
            name="durable events",
            unit="/s",
            ours=rates(served[OURS]),
            baseline=ROWS,
            base=tuple(one for one in found[ROWS] if isinstance(one, float)),
            goal=Goal(1.5),
        ),
        *(by_rate(name, served, side, CRUD) for side, name in WITH_WORKERS.items() if side in served),
    ]
    result.notes += [note, load_note(served)]
    return result


def measure_one_caller(lab: Lab) -> Result:
    """Compare the latency of one caller with load, decide, save by the event-sourcing library."""
    from bench.baselines import load_decide_save  # noqa: PLC0415 - it registers topics of its own

    licences = min(lab.sizes.licences, 2_000)
    requests = bodies.new_activation(lab, licences)
    with ExitStack() as stack:
        ours = stack.enter_context(lab.api(lab.filled_database(lab.sizes.licences)))
        plain = lab.new_database()
        load_decide_save.prepare(plain.url, licences, seats=1000)
        base = stack.enter_context(lab.baseline("load_decide_save", plain.url))
        served = measured(lab, {OURS: Side(ours, requests, 1), LOADED: Side(base, requests, 1)})
    result = Result("activate-one")
    result.comparisons += [
        by_latency("p50", served, OURS, LOADED, Goal(1.2, is_limit=True)),
        by_latency("mean", served, OURS, LOADED),
    ]
    result.notes.append(load_note(served))
    return result


def _running(lab: Lab, side: Side) -> Callable[[], Served | float]:
    return lambda: side.run(lab.sizes)


def _served(found: list[Served | float]) -> list[Served]:
    return [one for one in found if isinstance(one, Served)]


def _rows(lab: Lab, size: int) -> Callable[[], Served | float]:
    """Insert rows of a size, from a process of its own as all other sides."""
    database = lab.new_database()
    command = [sys.executable, "-m", "bench.baselines.one_row_one_commit", database.url]

    def run() -> float:
        arguments = [str(lab.sizes.seconds), str(size)]
        done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
        return round(float(done.stdout), 1)

    return run


def _bytes_of_events(database: Database) -> int:
    with database.connect() as connection:
        row = connection.execute(
            "SELECT avg(octet_length(state))::int AS bytes FROM licensing_events WHERE topic = 'license.activated'"
        ).fetchone()
    assert row is not None
    return int(row["bytes"])
