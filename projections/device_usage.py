"""Which devices were used when: by day, first and last of all, and in runs of uses.

A use is a validation that succeeded or a heartbeat. A device is a licence's; what was refused is no use.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Any

from psycopg import Connection

from projections.projection import Projection

# A row that was there has been locked to be updated, which its xmax shows; so the others are new device-days.
_DAYS = """
    WITH days AS MATERIALIZED (
        SELECT license_id, (occurred_at AT TIME ZONE 'UTC')::date AS day, hardware_id,
            count(*) FILTER (WHERE type = 'license.validated') AS validations,
            count(*) FILTER (WHERE type = 'device.heartbeat') AS heartbeats,
            min(occurred_at) AS first_seen_at, max(occurred_at) AS last_seen_at
        FROM usage WHERE id > %(after)s AND id <= %(upto)s AND type <> 'license.validation.failed'
            AND license_id IS NOT NULL AND hardware_id IS NOT NULL
        GROUP BY license_id, day, hardware_id
    ), put_days AS (
        INSERT INTO device_days AS known
            (license_id, day, hardware_id, validations, heartbeats, first_seen_at, last_seen_at)
        SELECT * FROM days ORDER BY license_id, day, hardware_id
        ON CONFLICT (license_id, day, hardware_id) DO UPDATE SET
            validations = known.validations + excluded.validations,
            heartbeats = known.heartbeats + excluded.heartbeats,
            first_seen_at = least(known.first_seen_at, excluded.first_seen_at),
            last_seen_at = greatest(known.last_seen_at, excluded.last_seen_at)
        RETURNING day, xmax = 0 AS is_new
    ), put_fleet_days AS (
        INSERT INTO fleet_device_days AS known (day, unique_devices)
        SELECT day, count(*) FROM put_days WHERE is_new GROUP BY day ORDER BY day
        ON CONFLICT (day) DO UPDATE SET unique_devices = known.unique_devices + excluded.unique_devices
    )
    INSERT INTO device_sightings AS known (license_id, hardware_id, first_seen_at, last_seen_at)
    SELECT license_id, hardware_id, min(first_seen_at), max(last_seen_at)
    FROM days GROUP BY license_id, hardware_id ORDER BY license_id, hardware_id
    ON CONFLICT (license_id, hardware_id) DO UPDATE SET
        first_seen_at = least(known.first_seen_at, excluded.first_seen_at),
        last_seen_at = greatest(known.last_seen_at, excluded.last_seen_at)
"""

_GAP = "interval '30 minutes'"

# The new uses as runs; with them the stored sessions that they touch, which lie apart from each other, so that before
# a run only the last one can reach it; all these joined where no gap is left between them. A joined session keeps the
# row of its earliest part. What it swallowed is deleted, so that no row is both deleted and put.
_SESSIONS = f"""
    WITH uses AS (
        SELECT license_id, hardware_id, occurred_at, coalesce(
            occurred_at - lag(occurred_at) OVER of_device > {_GAP}, true) AS begins
        FROM usage WHERE id > %(after)s AND id <= %(upto)s AND type <> 'license.validation.failed'
            AND license_id IS NOT NULL AND hardware_id IS NOT NULL
        WINDOW of_device AS (PARTITION BY license_id, hardware_id ORDER BY occurred_at)
    ), numbered AS (
        SELECT license_id, hardware_id, occurred_at, count(*) FILTER (WHERE begins) OVER (
            PARTITION BY license_id, hardware_id ORDER BY occurred_at ROWS UNBOUNDED PRECEDING) AS number
        FROM uses
    ), runs AS MATERIALIZED (
        SELECT license_id, hardware_id, min(occurred_at) AS started_at, max(occurred_at) AS ended_at
        FROM numbered GROUP BY license_id, hardware_id, number
    ), touched AS MATERIALIZED (
        SELECT DISTINCT runs.license_id, runs.hardware_id, stored.started_at, stored.ended_at
        FROM runs CROSS JOIN LATERAL (
            (SELECT started_at, ended_at FROM device_sessions AS earlier
            WHERE earlier.license_id = runs.license_id AND earlier.hardware_id = runs.hardware_id
                AND earlier.started_at <= runs.started_at ORDER BY earlier.started_at DESC LIMIT 1)
            UNION ALL
            SELECT started_at, ended_at FROM device_sessions AS later
            WHERE later.license_id = runs.license_id AND later.hardware_id = runs.hardware_id
                AND later.started_at > runs.started_at AND later.started_at <= runs.ended_at + {_GAP}
        ) AS stored
        WHERE stored.ended_at >= runs.started_at - {_GAP}
    ), parts AS (
        SELECT license_id, hardware_id, started_at, ended_at, coalesce(started_at - max(ended_at) OVER (
            PARTITION BY license_id, hardware_id ORDER BY started_at, ended_at
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) > {_GAP}, true) AS begins
        FROM (SELECT * FROM runs UNION ALL SELECT * FROM touched) AS together
    ), numbered_parts AS (
        SELECT license_id, hardware_id, started_at, ended_at, count(*) FILTER (WHERE begins) OVER (
            PARTITION BY license_id, hardware_id ORDER BY started_at, ended_at ROWS UNBOUNDED PRECEDING) AS number
        FROM parts
    ), joined AS MATERIALIZED (
        SELECT license_id, hardware_id, min(started_at) AS started_at, max(ended_at) AS ended_at
        FROM numbered_parts GROUP BY license_id, hardware_id, number
    ), swallowed AS (
        DELETE FROM device_sessions AS stored USING (
            SELECT license_id, hardware_id, started_at FROM touched
            EXCEPT SELECT license_id, hardware_id, started_at FROM joined
        ) AS part
        WHERE stored.license_id = part.license_id AND stored.hardware_id = part.hardware_id
            AND stored.started_at = part.started_at
    )
    INSERT INTO device_sessions (license_id, hardware_id, started_at, ended_at)
    SELECT * FROM joined ORDER BY license_id, hardware_id, started_at
    ON CONFLICT (license_id, hardware_id, started_at) DO UPDATE SET ended_at = excluded.ended_at
"""  # noqa: S608 - constants only

# Sessions that began before are kept whole: joining their uses with them once more changes nothing.
_CARRY_OVER = (
    "INSERT INTO device_days SELECT * FROM lizenzserver.device_days WHERE day < %(before)s",
    """
    INSERT INTO device_sightings (license_id, hardware_id, first_seen_at, last_seen_at)
    SELECT license_id, hardware_id, min(first_seen_at), max(last_seen_at)
    FROM lizenzserver.device_days WHERE day < %(before)s GROUP BY license_id, hardware_id
    """,
    "INSERT INTO device_sessions SELECT * FROM lizenzserver.device_sessions WHERE started_at < %(midnight)s",
    "INSERT INTO fleet_device_days SELECT * FROM lizenzserver.fleet_device_days WHERE day < %(before)s",
)


def apply_usage(connection: Connection[Any], after: int, upto: int) -> None:
    """Note the devices of the usage log's rows after one id, up to and including another."""
    connection.execute("SET LOCAL jit = off")
    for statement in (_DAYS, _SESSIONS):
        connection.execute(statement, {"after": after, "upto": upto})


def carry_over(connection: Connection[Any], before: date) -> None:
    """Copy what the live tables know of the days before a date."""
    midnight = datetime.combine(before, time(), UTC)
    for statement in _CARRY_OVER:
        connection.execute(statement, {"before": before, "midnight": midnight})


DEVICE_USAGE = Projection(
    name="devices-seen",
    tables=("device_days", "device_sightings", "device_sessions", "fleet_device_days"),
    apply_usage=apply_usage,
    carry_over=carry_over,
)
