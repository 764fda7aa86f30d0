"""How far consumers are behind the logs, who works, and what was set aside."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec


class ConsumerState(msgspec.Struct, frozen=True, kw_only=True):
    """One consumer; its position is None in a log that it does not follow.

    `lag_seconds` is the age of the oldest row that it has not applied; 0 where there is none. Of an event that can't
    be read, it is the time for which the consumer has stood before it.
    """

    consumer: str
    event_position: int | None
    usage_position: int | None
    lag_seconds: float
    dead_letters: int


class WorkerState(msgspec.Struct, frozen=True, kw_only=True):
    """The process that holds a worker's lease, as `host:process id`, whether the lease still runs, and its trouble."""

    worker: str
    holder_name: str
    alive: bool
    trouble: str


class FanOut(msgspec.Struct, frozen=True, kw_only=True):
    """All of it at one moment. A consumer or worker that has never run is not listed."""

    consumers: list[ConsumerState]
    workers: list[WorkerState]

    def of(self, consumer: str) -> ConsumerState | None:
        """Return one consumer's state."""
        return next((state for state in self.consumers if state.consumer == consumer), None)

    def trouble(self, worker: str) -> str:
        """Return what keeps a worker's holder from working; empty where nothing does."""
        return next((state.trouble for state in self.workers if state.worker == worker), "")

    def is_alive(self, worker: str) -> bool:
        """Tell whether a process does this worker's work."""
        return any(state.alive for state in self.workers if state.worker == worker)


# The usage log is a table for each day: it is searched only where its sequence says that there may be more.
_CONSUMERS = """
    SELECT c.consumer, c.event_position, c.usage_position,
        (SELECT state FROM licensing_events WHERE notification_id > c.event_position ORDER BY notification_id LIMIT 1)
            AS next_event,
        CASE WHEN ids.is_called AND c.usage_position < ids.last_value THEN
            (SELECT occurred_at FROM usage WHERE id > c.usage_position ORDER BY id LIMIT 1) END AS next_use_at,
        c.moved_at, clock_timestamp() AS now,
        (SELECT count(*) FROM dead_letters d WHERE d.consumer = c.consumer) AS dead_letters
    FROM consumers AS c CROSS JOIN usage_id_seq AS ids
    -- A relay whose broker was given up for good is no concern after a week, nor does retention wait for it longer.
    WHERE c.moved_at > clock_timestamp() - interval '7 days' OR EXISTS (
        SELECT FROM leases l WHERE l.expires_at > clock_timestamp()
            AND l.worker = CASE WHEN c.consumer IN ('relay', 'anomaly', 'notary') THEN c.consumer ELSE 'projector' END)
    ORDER BY c.consumer
"""
_WORKERS = "SELECT worker, holder_name, expires_at > clock_timestamp() AS alive, trouble FROM leases ORDER BY worker"


async def read(connection: Any) -> FanOut:
    """Read the state of all consumers and workers."""
    consumers = await connection.execute(_CONSUMERS)
    states = [_state(row) for row in await consumers.fetchall()]
    workers = await connection.execute(_WORKERS)
    return FanOut(consumers=states, workers=[WorkerState(**row) for row in await workers.fetchall()])


class _Event(msgspec.Struct):
    occurred_at: Annotated[datetime, msgspec.Meta(tz=True)]


_decode = msgspec.json.Decoder(_Event).decode


def event_time(state: bytes) -> datetime | None:
    """Return when a stored event occurred; None where it can't be read."""
    try:
        return _decode(state).occurred_at
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _state(row: dict[str, Any]) -> ConsumerState:
    waiting = [row["next_use_at"]] if row["next_use_at"] is not None else []
    if row["next_event"] is not None:
        waiting.append(event_time(row["next_event"]) or row["moved_at"])
    lag = max((row["now"] - at for at in waiting), default=timedelta())
    return ConsumerState(
        consumer=row["consumer"],
        event_position=row["event_position"],
        usage_position=row["usage_position"],
        lag_seconds=max(lag.total_seconds(), 0.0),
        dead_letters=row["dead_letters"],
    )
