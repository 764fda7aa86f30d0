"""Aggregates in memory, kept at the head of the log. One thread owns them: the writer's."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from eventsourcing.persistence import Mapper, StoredEvent
from psycopg import Connection

from commands.handlers import Aggregate, evolve
from commands.one_trip import Answer
from commands.recorder import LicensingRecorder
from commands.snapshots import Snapshots
from domain.facts import Recorded, SettingsChanged
from domain.license import License

MAX_AGGREGATES = 20_000
MAX_DEVICES = 1_000_000
"""Activations over all cached aggregates: about 200 bytes each."""

MAX_TAIL = 5_000
"""Events that are worth reading to catch up; further behind, aggregates are loaded anew."""


class AggregateCache:
    """Loads aggregates, applies what the log gained, and forgets what a failed batch has touched.

    Without reading the log's tail before each batch, processes that share a database never stop conflicting.
    Nothing is copied on reading: a copy of a licence with 100,000 devices takes a second.
    """

    def __init__(self, recorder: LicensingRecorder, mapper: Mapper[UUID]) -> None:
        self._recorder = recorder
        self._mapper = mapper
        self._snapshots = Snapshots()
        self._states: OrderedDict[UUID, Aggregate] = OrderedDict()
        self._position: int | None = None
        self._touched: set[UUID] = set()
        self._devices = 0

    def get(self, aggregate_id: UUID) -> Aggregate | None:
        """Return the current state, or None where there is no such aggregate. Load it first."""
        return self._states.get(aggregate_id)

    def refresh(self, connection: Connection[Any], ids: Iterable[UUID]) -> None:
        """Bring the aggregates with these ids into memory, and all that are there to the head of the log."""
        if self._position is None:
            self._begin(connection)
        wanted = list(ids)
        missing = [aggregate_id for aggregate_id in wanted if aggregate_id not in self._states]
        assert self._position is not None
        with self._recorder.trip(connection) as trip:
            tail = self._recorder.tail(trip, self._position, MAX_TAIL)
            histories = self._snapshots.ask(trip, missing) if missing else None
        if not self._follow(tail.rows()) or not (histories is None or self._take(histories, missing)):
            return self.refresh(connection, wanted)
        for aggregate_id in wanted:
            if aggregate_id in self._states:
                self._states.move_to_end(aggregate_id)
        # All that are wanted stand at the end now.
        return self._shrink(keep=len(wanted))

    def _begin(self, connection: Connection[Any]) -> None:
        row = connection.execute("SELECT coalesce(max(notification_id), 0) AS head FROM licensing_events").fetchone()
        assert row is not None
        self.clear()
        self._position = row["head"]

    def _follow(self, tail: Sequence[tuple[Any, ...]]) -> bool:
        """Apply events to the aggregates in memory; tell whether all of them are at the head of the log now.

        An aggregate whose event can't be read is forgotten: only who needs it shall be told, when it is read anew.
        """
        if len(tail) == MAX_TAIL:
            self.clear()
            return False
        complete = True
        for position, *columns in tail:
            self._position = position
            stored = StoredEvent(*columns)
            state = self._states.get(stored.originator_id)  # type: ignore[arg-type]
            if state is not None and stored.originator_version == state.version + 1:
                try:
                    self._evolve_stored(stored)
                except Exception:  # noqa: BLE001 - as above
                    complete = False
        return complete

    def _take(self, histories: Answer, ids: Sequence[UUID]) -> bool:
        """Bring aggregates into memory; tell whether all histories could be read from where they were read."""
        licenses, events, complete = self._snapshots.take(histories)
        if not complete:
            return False
        for license in licenses:
            self._put(license.id, license)
        for stored in events:
            # Nothing is decided about settings: who names their id as some other thing's names nothing.
            if stored.topic != SettingsChanged.stored_name:
                self._evolve_stored(stored)
        counts = Counter(stored.originator_id for stored in events)
        for aggregate_id in ids:
            self._snapshots.loaded(self._states.get(aggregate_id), counts[aggregate_id])
        return True

    def apply(self, event: Recorded) -> None:
        """Apply an event that is about to be saved."""
        self._touched.add(event.originator_id)
        self._snapshots.advanced(self._evolve(event))

    def saved(self, positions: Sequence[int]) -> None:
        """Note that what was applied is in the log, at these positions.

        Where nothing came between, the next tail need not have it; else it is passed over then, by the versions.
        """
        self._touched.clear()
        if positions and self._position is not None and positions[0] == self._position + 1:
            self._position = positions[-1]

    def write_snapshots(self, connection: Connection[Any]) -> None:
        """Write the snapshots that are due. Between batches, when all that is in memory is in the log."""
        if not self._touched:
            self._snapshots.write(connection, self._states)

    def clear_failed(self) -> None:
        """Forget the aggregates that events were applied to which are not in the log."""
        for aggregate_id in self._touched:
            self._forget(aggregate_id)
        self._touched.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._states.clear()
        self._touched.clear()
        self._position = None
        self._devices = 0

    def _evolve_stored(self, stored: StoredEvent) -> None:
        """Apply an event of the log; where that fails, forget its aggregate: half a history is nothing to decide on."""
        try:
            self._evolve(self._mapper.to_domain_event(stored))
        except Exception:
            self._forget(stored.originator_id)  # type: ignore[arg-type]
            raise

    def _forget(self, aggregate_id: UUID) -> None:
        self._devices -= _size(self._states.pop(aggregate_id, None))

    def _evolve(self, event: Any) -> Aggregate:
        state = self._states.get(event.originator_id)
        before = _size(state)
        state = evolve(state, event)
        self._states[event.originator_id] = state
        self._devices += _size(state) - before
        return state

    def _put(self, aggregate_id: UUID, state: Aggregate) -> None:
        self._states[aggregate_id] = state
        self._devices += _size(state)

    def _shrink(self, keep: int) -> None:
        while len(self._states) > max(keep, MAX_AGGREGATES) or (
            self._devices > MAX_DEVICES and len(self._states) > keep
        ):
            _, state = self._states.popitem(last=False)
            self._devices -= _size(state)


def _size(state: Aggregate | None) -> int:
    if state is None:
        return 0
    return 1 + len(state.devices) if isinstance(state, License) else 1
