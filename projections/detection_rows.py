"""Rows of both logs on their way to the engine: how each is opened, where it stands in time, what it tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from domain.anomalies.engine import Engine
from domain.anomalies.findings import Finding
from domain.anomalies.observation import Observation
from domain.facts import AnomalyDetected, AnomalyResolved, CustomerErased, Recorded, SettingsChanged
from projections import observations, thresholds
from projections.merging import Queue


class Row(NamedTuple):
    """A row of a log: what it shows, or which word of a person it is, or why it can't be read; and who sent it."""

    seen: Observation | None = None
    word: AnomalyResolved | SettingsChanged | CustomerErased | None = None
    error: str | None = None
    subject_id: UUID | None = None
    address: str | None = None

    @property
    def tells_address(self) -> bool:
        """Tell whether something may be found of its sender's address."""
        return self.seen is not None and self.seen.address is not None

    @property
    def license_id(self) -> str | None:
        """Return whose state it needs."""
        if self.seen is not None:
            return self.seen.license_id
        if isinstance(self.word, AnomalyResolved) and self.word.license_id is not None:
            return str(self.word.license_id)
        return None


class Sender(observations.Sender, Protocol):
    """What is known of who sent something, with the address itself."""

    @property
    def address(self) -> str | None:
        """As the client's address was."""


class Senders(Protocol):
    """Opens what is sealed about senders. The subjects' keys are in memory."""

    def of_details(self, subject_id: UUID | None, details_sealed: bytes | None) -> Sender:
        """Return who sent a row of the usage log."""

    def of_event(self, subject_id: UUID | None, address_sealed: bytes | None, os_info_sealed: bytes | None) -> Sender:
        """Return who ordered what an event says."""


def add_event(queue: Queue[Row], position: int, event: Recorded | Exception, senders: Senders) -> None:
    """Take the event log's next event, or why it can't be read."""
    if isinstance(event, Exception):
        queue.add(position, time_of(event), Row(error=one_line(event)))
    else:
        word = event.fact if isinstance(event.fact, AnomalyResolved | SettingsChanged | CustomerErased) else None
        seen = observations.of_event(event, senders.of_event)
        queue.add(position, time_of(event), Row(seen, word, subject_id=event.subject_id))


def time_of(event: Recorded | Exception) -> float | None:
    """Return the time by which an event is merged, in seconds since 1970; None: it stands with the one before it.

    What detection has found, perhaps long ago, must not move the time by which it merges.
    """
    if isinstance(event, Exception) or isinstance(event.fact, AnomalyDetected):
        return None
    return event.occurred_at.timestamp()


def add_use(queue: Queue[Row], use: Mapping[str, Any], senders: Senders, instance: str) -> None:
    """Take the usage log's next row. `instance` is the fingerprint that names this installation."""
    sender = senders.of_details(use["subject_id"], use["details_sealed"])
    seen = observations.of_use(use, sender, instance)
    queue.add(use["id"], seen.time, Row(seen, subject_id=use["subject_id"], address=sender.address))


def show(engine: Engine, row: Row, at: float) -> list[Finding]:
    """Show a row in its turn to the engine, which has its licence's state; return what it completes.

    An erasure is no such row: the states of all licences that it names are needed for that.
    """
    if row.seen is not None:
        return engine.observe(row.seen)
    if isinstance(row.word, SettingsChanged) and row.word.section == thresholds.SECTION:
        engine.use(thresholds.of_change(row.word))
    elif isinstance(row.word, AnomalyResolved) and row.word.resolution == "dismissed":
        word = row.word
        license_id = None if word.license_id is None else str(word.license_id)
        address = None if word.address_hash is None else word.address_hash.hex()
        engine.dismiss(license_id, address, word.kind, word.severity, at)  # type: ignore[arg-type]  # as it was found
    return []


def one_line(error: Exception) -> str:
    """Say what went wrong in one line."""
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {text}"
