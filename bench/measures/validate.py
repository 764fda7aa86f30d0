"""`validate`, hot: a thousand devices in turn, everything in memory but the usage rows, which are durable."""

from __future__ import annotations

from contextlib import ExitStack

from bench import bodies
from bench.figures import Goal, Result
from bench.fill import LIMIT
from bench.lab import Lab
from bench.load import WrongAnswers
from bench.sides import Served, Side, ask, by_latency, by_rate, load_note, measured
from bench.workers import WITH_WORKERS, with_workers
from infra.postgres import Database

CONNECTIONS = 32
DEVICES = 1_000

OURS, EMPTY, CRUD = "api", "empty handler", "CRUD server"


def measure(lab: Lab) -> Result:
    """Compare with an empty handler and with a CRUD server; report what running workers cost."""
    from bench.baselines import crud_tables  # noqa: PLC0415 - the other measures do without SQLAlchemy

    requests = bodies.pool(
        lab, "validate", bodies.VALIDATE, [(bodies.key_header(lab), bodies.validation(n)) for n in range(DEVICES)]
    )
    with ExitStack() as stack:
        database = lab.filled_database(lab.sizes.licences)
        ours = stack.enter_context(lab.api(database))
        empty = stack.enter_context(lab.baseline("empty_aiohttp"))
        plain = lab.new_database()
        crud_tables.prepare(plain.url, lab.sizes.licences, lab.api_key, seats=1000)
        crud = stack.enter_context(lab.baseline("crud_server", plain.url))
        sides = {
            OURS: Side(ours, requests, CONNECTIONS),
            EMPTY: Side(empty, requests, CONNECTIONS),
            CRUD: Side(crud, requests, CONNECTIONS),
        }
        if lab.sizes.workers:
            sides |= with_workers(lab, stack, requests, CONNECTIONS)
        for server in (ours, empty, crud):
            check = ask(server, bodies.VALIDATE, bodies.key_header(lab), bodies.validation(1))
            assert check[0]["valid"] is True, check
        _, headers = ask(ours, bodies.VALIDATE, bodies.key_header(lab), bodies.validation(1))
        assert headers["X-RateLimit-Limit"] == str(LIMIT), headers
        before = usage_rows(database)
        served = measured(lab, sides)
        stored = usage_rows(database) - before
    result = compare(served)
    result.notes.append(_durable(stored, served[OURS]))
    return result


def compare(served: dict[str, list[Served]]) -> Result:
    """Make the rows of the report."""
    result = Result("validate")
    result.comparisons += [
        by_rate("hot, 32 connections", served, OURS, EMPTY, Goal(0.6)),
        by_latency("p99", served, OURS, EMPTY, Goal(3, is_limit=True)),
        by_rate("hot, 32 connections", served, OURS, CRUD, Goal(25)),
    ]
    result.comparisons += [
        by_rate(f"hot, {name}", served, side, EMPTY) for side, name in WITH_WORKERS.items() if side in served
    ]
    result.notes.append(load_note(served))
    return result


def usage_rows(database: Database) -> int:
    """Return how many usage rows are stored."""
    with database.connect() as connection:
        row = connection.execute("SELECT count(*) AS rows FROM usage").fetchone()
    assert row is not None
    return int(row["rows"])


def _durable(stored: int, served: list[Served]) -> str:
    """Say that every answer that was counted has its row; warming up stores rows too. Raises WrongAnswers."""
    answered = sum(one.load.good for one in served)
    if stored < answered:
        raise WrongAnswers(f"{answered} validations were answered, but {stored} usage rows are stored")
    return f"{answered:,} validations were answered while measuring; with warming up {stored:,} usage rows are stored"
