"""How often licences were validated, refused and heard of: sums by hour, by day, by country, version and reason."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Any

from psycopg import Connection

from projections.projection import Projection

_TYPES = """
    count(*) FILTER (WHERE type = 'license.validated') AS validations,
    count(*) FILTER (WHERE type = 'license.validation.failed') AS failed_validations,
    count(*) FILTER (WHERE type = 'device.heartbeat') AS heartbeats
"""
_SUMS = "sum(validations) AS validations, sum(failed_validations) AS failed_validations, sum(heartbeats) AS heartbeats"
_ADD = """
    DO UPDATE SET validations = known.validations + excluded.validations,
        failed_validations = known.failed_validations + excluded.failed_validations,
        heartbeats = known.heartbeats + excluded.heartbeats
"""

# One statement, so that the log's partitions are opened once. A reason is counted by day, and by hour as `HH REASON`.
_APPLY = f"""
    WITH counts AS MATERIALIZED (
        SELECT license_id, date_trunc('hour', occurred_at, 'UTC') AS hour, country, app_version, reason, {_TYPES}
        FROM usage WHERE id > %(after)s AND id <= %(upto)s
        GROUP BY license_id, hour, country, app_version, reason
    ), hours AS MATERIALIZED (
        SELECT license_id, hour, {_SUMS} FROM counts GROUP BY license_id, hour
    ), facets AS MATERIALIZED (
        SELECT license_id, (hour AT TIME ZONE 'UTC')::date AS day, dimension, value, {_SUMS}
        FROM counts CROSS JOIN LATERAL (VALUES
            ('country', coalesce(country, '')),
            ('app_version', coalesce(app_version, '')),
            ('reason', reason),
            ('reason_hour', to_char(hour AT TIME ZONE 'UTC', 'HH24 ') || reason)
        ) AS facet (dimension, value)
        WHERE value IS NOT NULL GROUP BY license_id, day, dimension, value
    ), put_hours AS (
        INSERT INTO usage_hours AS known (license_id, hour, validations, failed_validations, heartbeats)
        SELECT * FROM hours WHERE license_id IS NOT NULL ORDER BY license_id, hour
        ON CONFLICT (license_id, hour) {_ADD}
    ), put_days AS (
        INSERT INTO usage_days AS known (license_id, day, validations, failed_validations, heartbeats)
        SELECT license_id, (hour AT TIME ZONE 'UTC')::date AS day, {_SUMS}
        FROM hours WHERE license_id IS NOT NULL GROUP BY license_id, day ORDER BY license_id, day
        ON CONFLICT (license_id, day) {_ADD}
    ), put_facets AS (
        INSERT INTO usage_facets AS known
            (license_id, day, dimension, value, validations, failed_validations, heartbeats)
        SELECT * FROM facets WHERE license_id IS NOT NULL ORDER BY license_id, day, dimension, value
        ON CONFLICT (license_id, day, dimension, value) {_ADD}
    ), put_fleet_hours AS (
        INSERT INTO fleet_hours AS known (hour, validations, failed_validations, heartbeats)
        SELECT hour, {_SUMS} FROM hours GROUP BY hour ORDER BY hour
        ON CONFLICT (hour) {_ADD}
    )
    INSERT INTO fleet_facets AS known (day, dimension, value, validations, failed_validations, heartbeats)
    SELECT day, dimension, value, {_SUMS} FROM facets GROUP BY day, dimension, value ORDER BY day, dimension, value
    ON CONFLICT (day, dimension, value) {_ADD}
"""  # noqa: S608 - constants only

_CARRY_OVER = (
    "INSERT INTO usage_hours SELECT * FROM lizenzserver.usage_hours WHERE hour < %(midnight)s",
    "INSERT INTO usage_days SELECT * FROM lizenzserver.usage_days WHERE day < %(before)s",
    "INSERT INTO usage_facets SELECT * FROM lizenzserver.usage_facets WHERE day < %(before)s",
    "INSERT INTO fleet_hours SELECT * FROM lizenzserver.fleet_hours WHERE hour < %(midnight)s",
    "INSERT INTO fleet_facets SELECT * FROM lizenzserver.fleet_facets WHERE day < %(before)s",
)


def apply_usage(connection: Connection[Any], after: int, upto: int) -> None:
    """Count the usage log's rows after one id, up to and including another."""
    connection.execute("SET LOCAL jit = off")
    connection.execute(_APPLY, {"after": after, "upto": upto})


def carry_over(connection: Connection[Any], before: date) -> None:
    """Copy the live counts of the days before a date."""
    midnight = datetime.combine(before, time(), UTC)
    for statement in _CARRY_OVER:
        connection.execute(statement, {"before": before, "midnight": midnight})


USAGE_COUNTS = Projection(
    name="usage",
    tables=("usage_hours", "usage_days", "usage_facets", "fleet_hours", "fleet_facets"),
    apply_usage=apply_usage,
    carry_over=carry_over,
)
