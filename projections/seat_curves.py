"""Seats in use over time, exactly: a licence's steps, and each day's peak of many licences."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from projections.periods import Period
from projections.products import of_product

MOST_CHANGES = 1000


class SeatPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Seats in use and allowed from a moment on."""

    at: datetime
    used: int
    allowed: int


class SeatCurve(msgspec.Struct, frozen=True, kw_only=True):
    """Steps of a licence's seats: what held at the period's start, then each change, oldest first.

    `changes` holds the newest 1,000 of `changes_in_all`. `peak` is the first moment at which most seats were in use.
    """

    opening: SeatPoint
    changes: list[SeatPoint]
    changes_in_all: int
    peak: SeatPoint


class DayOfSeats(msgspec.Struct, frozen=True, kw_only=True):
    """Seats taken and given up on one day, most at once, and at its end; a transfer is both taken and given up.

    `date` is ISO 8601, in UTC.
    """

    date: str
    activations: int
    deactivations: int
    seats_peak: int
    seats_at_end: int


# Events follow each other by position. Clocks of processes differ a little, so a moment is never before the last one.
# `allowed` holds from the row that sets it to the next that does: those between them share its count.
_CURVE = f"""
    WITH steps AS (
        SELECT position, activations, deactivations, allowed, max(at) OVER so_far AS at,
            sum(activations - deactivations) OVER so_far AS used, count(allowed) OVER so_far AS term
        FROM seat_changes WHERE license_id = %(license_id)s
        WINDOW so_far AS (ORDER BY position ROWS UNBOUNDED PRECEDING)
    ), curve AS MATERIALIZED (
        SELECT position, at, used, coalesce(max(allowed) OVER (PARTITION BY term), 0) AS allowed
        FROM steps WHERE activations <> deactivations OR allowed IS NOT NULL
    ), changes AS MATERIALIZED (
        SELECT * FROM curve WHERE at >= %(since)s AND at < %(until)s
    )
    (SELECT 'opening' AS kind, at, used, allowed FROM curve WHERE at < %(since)s ORDER BY position DESC LIMIT 1)
    UNION ALL (SELECT 'peak', at, used, allowed FROM changes ORDER BY used DESC, position LIMIT 1)
    UNION ALL SELECT 'count', NULL, count(*), NULL FROM changes
    UNION ALL (SELECT 'change', at, used, allowed FROM changes ORDER BY position DESC LIMIT {MOST_CHANGES})
"""  # noqa: S608 - constants only

_ALL_DAYS = "SELECT day, activations, deactivations FROM seat_days WHERE day < %(end_day)s"
_PRODUCTS_DAYS = """
    SELECT (at AT TIME ZONE 'UTC')::date AS day, sum(activations) AS activations, sum(deactivations) AS deactivations
    FROM seat_changes WHERE at < %(until)s {of_product} GROUP BY day
"""

# A day's `most` counts from what was in use when the period began, which is the row without a date.
_DAILY = """
    WITH days AS MATERIALIZED ({days}), curve AS (
        SELECT (at AT TIME ZONE 'UTC')::date AS day,
            sum(activations - deactivations) OVER (ORDER BY at, position ROWS UNBOUNDED PRECEDING) AS used
        FROM seat_changes WHERE at >= %(since)s AND at < %(until)s {of_product}
    ), peaks AS (
        SELECT day, max(used) AS most FROM curve GROUP BY day
    )
    SELECT day::text AS date, activations::bigint, deactivations::bigint, most::bigint
    FROM days JOIN peaks USING (day)
    UNION ALL SELECT NULL, coalesce(sum(activations), 0)::bigint, coalesce(sum(deactivations), 0)::bigint, 0
    FROM days WHERE day < %(first_day)s
"""


async def of_license(connection: Any, license_id: UUID, period: Period) -> SeatCurve:
    """Return the steps of a licence's seats over a period."""
    cursor = await connection.execute(_CURVE, {"license_id": license_id, **period.bounds})
    opening = peak = SeatPoint(at=period.since, used=0, allowed=0)
    changes: list[SeatPoint] = []
    in_all = 0
    for row in await cursor.fetchall():
        match row["kind"]:
            case "opening":
                opening = peak = SeatPoint(at=period.since, used=row["used"], allowed=row["allowed"])
            case "peak":
                peak = _point(row) if row["used"] > opening.used else opening
            case "count":
                in_all = row["used"]
            case _:
                changes.append(_point(row))
    return SeatCurve(opening=opening, changes=changes[::-1], changes_in_all=in_all, peak=peak)


async def daily(connection: Any, period: Period, product: str | None = None) -> list[DayOfSeats]:
    """Return each day's seats of all licences, or of one product's."""
    condition = of_product(product)
    days = _ALL_DAYS if product is None else _PRODUCTS_DAYS.format(of_product=condition)
    query = _DAILY.format(days=days, of_product=condition)
    cursor = await connection.execute(query, {"product": product, **period.bounds}, prepare=False)
    found = {row["date"]: row for row in await cursor.fetchall()}
    before = found.pop(None)
    opening = used = before["activations"] - before["deactivations"]
    shown: list[DayOfSeats] = []
    for date in period.dates:
        day = found.get(date, {"activations": 0, "deactivations": 0, "most": used - opening})
        peak = max(used, opening + day["most"])
        used += day["activations"] - day["deactivations"]
        shown.append(
            DayOfSeats(
                date=date,
                activations=day["activations"],
                deactivations=day["deactivations"],
                seats_peak=peak,
                seats_at_end=used,
            )
        )
    return shown


def _point(row: dict[str, Any]) -> SeatPoint:
    return SeatPoint(at=row["at"], used=row["used"], allowed=row["allowed"])
