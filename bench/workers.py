"""Workers beside an API process."""

from __future__ import annotations

import time
from contextlib import ExitStack

from bench.lab import Lab
from bench.servers import Process, ServerFailed
from infra.postgres import Database

NAMES = ("projector", "anomaly")
CATCH_UP_SECONDS = 600

_BEHIND = """
    SELECT count(*) AS consumers, coalesce(bool_or(
        event_position < (SELECT coalesce(max(notification_id), 0) FROM licensing_events)
        OR usage_position < (SELECT coalesce(max(id), 0) FROM usage)), true) AS behind
    FROM consumers WHERE consumer <> 'relay'
"""


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
