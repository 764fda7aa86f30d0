"""Records which thresholds detection goes by: those of the settings, from the event on that says so.

So the history tells when they changed, and what was found before is found again the same.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import uuid4

import msgspec
from psycopg import Connection

from domain.anomalies.thresholds import DEFAULT, Thresholds
from domain.facts import Cause, Recorded, SettingsChanged
from projections.reading import Decode
from projections.thresholds import SECTION, SETTINGS_ID, latest

_LARGEST = 2**63 - 1


def change(connection: Connection[Any], wanted: Thresholds, now: datetime, decode: Decode) -> Recorded | None:
    """Return the event to record where the settings say something else than the log; None where they agree."""
    last = latest(connection, _LARGEST, decode)
    values = _plain(wanted)
    old = _plain(DEFAULT) if last is None else _values(last)
    changed = tuple(sorted(name for name in values.keys() | old.keys() if values.get(name) != old.get(name)))
    if not changed:
        return None
    return Recorded(
        originator_id=SETTINGS_ID,
        originator_version=1 if last is None else last.originator_version + 1,
        event_id=uuid4(),
        occurred_at=now,
        subject_id=None,
        cause=Cause(actor="job:anomaly", command="ChangeSettings", command_id=uuid4(), request_id=str(uuid4())),
        fact=SettingsChanged(section=SECTION, values=values, changed=changed),
    )


def _values(event: Recorded) -> dict[str, Any]:
    assert isinstance(event.fact, SettingsChanged)
    return event.fact.values


def _plain(thresholds: Thresholds) -> dict[str, Any]:
    """Return the values as JSON gives them back."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(thresholds))
    return plain
