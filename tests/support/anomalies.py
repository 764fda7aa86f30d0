"""Anomalies and settings in the log, recorded as the anomaly worker records them, without anything to be found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from commands.application import LicensingApplication
from commands.event_mapper import decoder
from commands.orders import ResolveAnomaly
from domain.anomalies.thresholds import DEFAULT
from domain.anomaly import Resolution
from domain.facts import AnomalyDetected, Recorded
from infra.postgres import Database
from projections.inline_views import InlineViews
from tests.support.given import NOW, recorded
from tests.support.orders import PlainEmails, cause, now
from workers.thresholds import change

Record = Callable[..., None]
"""Appends events, and writes their views, in one transaction."""


@contextmanager
def recording(database: Database) -> Iterator[Record]:
    """Give what appends events that no order leads to."""
    application = LicensingApplication(database.conninfo("lizenzserver-log"), InlineViews(PlainEmails()))

    def record(*events: Recorded) -> None:
        with database.connect() as connection:
            application.events.put(events, recorded=events, connection=connection)

    try:
        yield record
    finally:
        application.close()


def detected(anomaly_id: UUID, **fields: Any) -> Recorded:
    """Return the event of an anomaly of an address, or of the licence that is given."""
    about = {} if "license_id" in fields else {"address_hash": b"a" * 16, "sealed": {"address": b"sealed address"}}
    given = {"kind": "key_guessing", "severity": "medium", "explanation": "So many keys.", "evidence": ("one", "two")}
    return recorded(anomaly_id, 1, AnomalyDetected(found_at=NOW, **{**given, **about, **fields}))


def resolve(anomaly_id: UUID, resolution: Resolution, reason: bytes | None = None) -> ResolveAnomaly:
    """Order what is to be thought of an anomaly."""
    sealed = {} if reason is None else {"reason": reason}
    return ResolveAnomaly(cause=cause(), now=now(), anomaly_id=anomaly_id, resolution=resolution, sealed=sealed)


def change_thresholds(database: Database, **values: Any) -> None:
    """Record that detection goes by other thresholds from here on."""
    with recording(database) as record, database.connect() as connection:
        wanted = msgspec.structs.replace(DEFAULT, **values)
        event = change(connection, wanted, datetime.now(UTC), decoder())
        assert event is not None, "these are the thresholds already"
        record(event)
