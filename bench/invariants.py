"""What must hold after activations under load: no seat too many at any position, and every 2xx in the log."""

from __future__ import annotations

from bench.load import WrongAnswers
from infra.postgres import Database

_EVENTS = "SELECT count(*) AS events FROM licensing_events WHERE topic = 'license.activated'"

# Nothing but activations happens in these databases, so that seats only ever become more.
_TOO_MANY = """
    SELECT count(*) AS licences FROM licenses l
    WHERE l.current_devices > l.max_devices
       OR l.current_devices <> (SELECT count(*) FROM devices d WHERE d.license_id = l.license_id AND d.is_active)
       OR l.current_devices <> (
            SELECT count(*) FROM licensing_events e
            WHERE e.originator_id = l.license_id AND e.topic = 'license.activated')
"""


def events_of(database: Database) -> int:
    """Return how many activations the log holds."""
    return _number(database, _EVENTS)


def check_seats(database: Database, before: int, answered: int) -> str:
    """Hold seats and log against each other and against the answers; return what was found. Raises WrongAnswers.

    wrk counts no answer that comes after its time, and none while warming up, so the log may hold more.
    """
    stored = events_of(database) - before
    wrong = _number(database, _TOO_MANY)
    if wrong:
        raise WrongAnswers(f"S: {wrong} licences have more seats in use than allowed, or than their events say")
    if stored < answered:
        raise WrongAnswers(f"L: {answered} activations were answered with 2xx, but {stored} are in the log")
    return f"S and L hold: {answered:,} activations answered while measuring, with warming up {stored:,} in the log"


def _number(database: Database, query: str) -> int:
    with database.connect(statement_timeout="600s") as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return int(next(iter(row.values())))
