"""The tables over the usage log, folded in plain Python from its rows: slow, obvious, and with no SQL in it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from infra.postgres import Database
from tests.support.usage import Use

Table = set[tuple[Any, ...]]

GAP = timedelta(minutes=30)
FAILED = "license.validation.failed"


def tables_of(database: Database, schema: str = "lizenzserver") -> dict[str, Table]:
    """Read all tables of both projections over the usage log."""
    with database.connect() as connection:
        return {
            name: {tuple(row.values()) for row in connection.execute(f"SELECT * FROM {schema}.{name}").fetchall()}
            for name in fold([])
        }


def fold(rows: Iterable[Use]) -> dict[str, Table]:
    """Return what each table must hold."""
    rows = list(rows)
    known = [row for row in rows if row.license_id is not None]
    uses = [row for row in known if row.type != FAILED and row.hardware_id is not None]
    return {
        "usage_hours": _counted(known, lambda row: (row.license_id, _hour(row))),
        "usage_days": _counted(known, lambda row: (row.at.date(), row.license_id)),
        "usage_facets": _faceted(known, lambda row: (row.license_id, row.at.date())),
        "fleet_hours": _counted(rows, lambda row: (_hour(row),)),
        "fleet_facets": _faceted(rows, lambda row: (row.at.date(),)),
        "device_days": _device_days(uses),
        "device_sightings": {(*device, min(times), max(times)) for device, times in _times(uses, _device).items()},
        "device_sessions": {
            (*device, begun, ended) for device, times in _times(uses, _device).items() for begun, ended in _runs(times)
        },
        "fleet_device_days": set(Counter(row[1] for row in _device_days(uses)).items()),
    }


def _device_days(uses: list[Use]) -> Table:
    by_device_day = defaultdict(list)
    for row in uses:
        by_device_day[row.license_id, row.at.date(), row.hardware_id].append(row)
    return {
        (
            *key,
            sum(row.type == "license.validated" for row in own),
            sum(row.type == "device.heartbeat" for row in own),
            min(row.at for row in own),
            max(row.at for row in own),
        )
        for key, own in by_device_day.items()
    }


def _device(row: Use) -> tuple[Any, ...]:
    return row.license_id, row.hardware_id


def _hour(row: Use) -> datetime:
    return row.at.replace(minute=0, second=0, microsecond=0)


def _times(uses: list[Use], key: Callable[[Use], tuple[Any, ...]]) -> dict[tuple[Any, ...], list[datetime]]:
    found = defaultdict(list)
    for row in uses:
        found[key(row)].append(row.at)
    return {name: sorted(times) for name, times in found.items()}


def _runs(times: list[datetime]) -> list[tuple[datetime, datetime]]:
    runs = [[times[0], times[0]]]
    for at in times[1:]:
        if at - runs[-1][1] <= GAP:
            runs[-1][1] = at
        else:
            runs.append([at, at])
    return [(begun, ended) for begun, ended in runs]


def _counted(rows: list[Use], key: Callable[[Use], tuple[Any, ...]]) -> Table:
    counts: defaultdict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[key(row)][row.type] += 1
    return {
        (*name, count["license.validated"], count[FAILED], count["device.heartbeat"]) for name, count in counts.items()
    }


def _faceted(rows: list[Use], key: Callable[[Use], tuple[Any, ...]]) -> Table:
    dimensions: dict[str, Callable[[Use], str | None]] = {
        "country": lambda row: row.country or "",
        "app_version": lambda row: row.app_version or "",
        "reason": lambda row: row.reason,
        "reason_hour": lambda row: f"{row.at:%H} {row.reason}",
    }
    found: Table = set()
    for dimension, value in dimensions.items():
        named = [row for row in rows if row.reason is not None or not dimension.startswith("reason")]
        found |= _counted(named, lambda row, of=value, name=dimension: (*key(row), name, of(row)))  # type: ignore[misc]
    return found
