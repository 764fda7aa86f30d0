"""Which thresholds detection goes by at a position of the event log: those of the latest change up to there."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
from psycopg import Connection

from domain.anomalies.thresholds import DEFAULT, Thresholds
from domain.facts import Recorded
from projections.reading import Decode

SECTION = "anomaly_thresholds"
SETTINGS_ID = UUID("5a6e7c1d-2f0b-4f0e-8f3c-6a1f0c9b7d21")
"""The aggregate whose events tell all changes of settings."""

_LATEST = """
    SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events
    WHERE originator_id = %s AND notification_id <= %s ORDER BY originator_version DESC LIMIT 1
"""


def in_force(connection: Connection[Any], position: int, decode: Decode) -> Thresholds:
    """Return the thresholds at a position of the event log."""
    return _after(latest(connection, position, decode))


async def in_force_async(connection: Any, position: int, decode: Decode) -> Thresholds:
    """Do the same on an asynchronous connection."""
    row = await (await connection.execute(_LATEST, (SETTINGS_ID, position))).fetchone()
    return _after(None if row is None else decode(row))


def latest(connection: Connection[Any], position: int, decode: Decode) -> Recorded | None:
    """Return the latest change of settings up to a position; None where there is none."""
    row = connection.execute(_LATEST, (SETTINGS_ID, position)).fetchone()
    return None if row is None else decode(row)


def of_change(fact: Any) -> Thresholds:
    """Return what a change leads to. What this program does not know or allow any more has its built-in value."""
    known = {name: value for name, value in fact.values.items() if name in Thresholds.__struct_fields__}
    return msgspec.convert({name: value for name, value in known.items() if _is_allowed(name, value)}, Thresholds)


def _is_allowed(name: str, value: Any) -> bool:
    try:
        msgspec.convert({name: value}, Thresholds)
    except msgspec.ValidationError:
        return False
    return True


def _after(event: Recorded | None) -> Thresholds:
    return DEFAULT if event is None else of_change(event.fact)
