"""Workers beside an API process."""

from __future__ import annotations

import time
from contextlib import ExitStack

from bench.lab import Lab
from bench.load import Requests
from bench.servers import Process, ServerFailed
from bench.sides import Side
from infra.postgres import Database

NAMES = ("projector", "anomaly", "notary")
CATCH_UP_SECONDS = 600

BESIDE, ALL_IN_ONE = "api, workers running", "all in one"
WITH_WORKERS = {BESIDE: "workers running as processes of their own", ALL_IN_ONE: "all in one process"}
"""The two sides that `with_workers` makes, and what their rows are called."""

_BEHIND = """
    SELECT count(*) AS consumers, coalesce(bool_or(
        event_position < (SELECT coalesce(max(notification_id), 0) FROM licensing_events)
        OR usage_position < (SELECT coalesce(max(id), 0) FROM usage)), true) AS behind
    FROM consumers WHERE consumer <> 'relay'
"""


def with_workers(lab: Lab, stack: ExitStack, requests: Requests, connections: int) -> dict[str, Side]:
    """Start an API process with workers beside it, and one that holds them; they stand still until their turns come."""
    databases = [lab.filled_database(lab.sizes.licences) for _ in range(2)]
    beside = stack.enter_context(lab.api(databases[0]))
    whole = stack.enter_context(lab.api(databases[1], workers=True))
    helpers = workers(lab, stack, databases[0])
    for one in databases:
        caught_up(lab, one)
    for process in (beside, whole, *helpers):
        process.pause()
    return {
        BESIDE: Side(beside, requests, connections, helpers, only_now=True),
        ALL_IN_ONE: Side(whole, requests, connections, only_now=True),
    }


def workers(lab: Lab, stack: ExitStack, database: Database) -> list[Process]:
    """Start the workers that need no broker, as processes of their own."""
    return [stack.enter_context(lab.worker(database, name)) for name in NAMES]


def caught_up(lab: Lab, database: Database) -> None:
    """Return when the workers have passed all that both logs hold."""
    lab.say("waiting until the workers have caught up")
    deadline = time.monotonic() + CATCH_UP_SECONDS
    with database.connect() as connection:
        while True:
            row = connection.execute(_BEHIND).fetchone()
            if row is not None and row["consumers"] and not row["behind"]:
                return
            if time.monotonic() > deadline:
                raise ServerFailed("the workers do not catch up")
            time.sleep(0.2)
