"""How many seats were in use, at every instant: each event that changes it, exactly, and sums by day.

What was in use is the sum of activations less deactivations up to a position; so the order of applying is no matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import Any

from msgspec import UNSET
from psycopg import Connection

from domain.facts import (
    DeviceActivated,
    DeviceDeactivated,
    Fact,
    LicenseIssued,
    LicenseUpdated,
    Recorded,
    SeatTransferred,
)
from projections.projection import Projection

_CHANGES = """
    INSERT INTO seat_changes (license_id, position, at, activations, deactivations, allowed)
    SELECT * FROM unnest(%b::uuid[], %b::bigint[], %b::timestamptz[], %b::int[], %b::int[], %b::int[])
"""

_DAYS = """
    INSERT INTO seat_days AS known (day, activations, deactivations)
    SELECT * FROM unnest(%b::date[], %b::bigint[], %b::bigint[])
    ON CONFLICT (day) DO UPDATE SET activations = known.activations + excluded.activations,
        deactivations = known.deactivations + excluded.deactivations
"""


def _change(fact: Fact) -> tuple[int, int, int | None] | None:
    """Return seats taken, seats given up, and the new number of seats; None where the fact changes none of them."""
    if isinstance(fact, DeviceActivated):
        return 1, 0, None
    if isinstance(fact, DeviceDeactivated):
        return 0, 1, None
    if isinstance(fact, SeatTransferred):
        return 1, 1, None
    if isinstance(fact, LicenseIssued):
        return 0, 0, fact.max_devices
    if isinstance(fact, LicenseUpdated) and fact.max_devices is not UNSET:
        return 0, 0, fact.max_devices
    return None


def apply_events(connection: Connection[Any], events: Sequence[tuple[int, Recorded]]) -> None:
    """Write the changes of seats among some events."""
    rows = [(position, event, change) for position, event in events if (change := _change(event.fact)) is not None]
    if not rows:
        return
    columns = (
        [event.originator_id for _, event, _ in rows],
        [position for position, _, _ in rows],
        [event.occurred_at for _, event, _ in rows],
        [change[0] for _, _, change in rows],
        [change[1] for _, _, change in rows],
        [change[2] for _, _, change in rows],
    )
    connection.execute(_CHANGES, columns)
    taken: Counter[date] = Counter()
    given_up: Counter[date] = Counter()
    for _, event, change in rows:
        taken[event.occurred_at.date()] += change[0]
        given_up[event.occurred_at.date()] += change[1]
    days = sorted(day for day in taken if taken[day] or given_up[day])
    if days:
        connection.execute(_DAYS, (days, [taken[day] for day in days], [given_up[day] for day in days]))


SEATS = Projection(name="seats", tables=("seat_changes", "seat_days"), apply_events=apply_events)
