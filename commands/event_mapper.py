"""Between facts and stored rows: typed JSON both ways, names from an allow-list, nothing imported by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from eventsourcing.persistence import JSONTranscoder, Mapper, StoredEvent
from eventsourcing.utils import register_topic

from domain.facts import FACTS, Cause, Fact, Recorded

Upcast = Callable[[dict[str, Any]], dict[str, Any]]

UPCASTS: dict[tuple[str, int], Upcast] = {}
"""(stored name, schema version) to the step that lifts its data to the next version. All facts are at version 1."""


class _Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    event_id: UUID
    occurred_at: datetime
    schema_version: int
    cause: Cause
    data: msgspec.Raw
    subject_id: UUID | None = None


class UnknownFact(ValueError):
    """The log holds a stored name or schema version that this program does not know."""


class EventMapper(Mapper[UUID]):
    """The library's mapper for `Recorded` events: state is UTF-8 JSON, personal data in it is ciphertext."""

    def __init__(self) -> None:
        super().__init__(JSONTranscoder())
        self._encoder = msgspec.json.Encoder()
        self._envelope = msgspec.json.Decoder(_Envelope)
        self._facts = {fact.stored_name: (fact, msgspec.json.Decoder(fact)) for fact in FACTS}
        for fact in FACTS:
            register_topic(fact.stored_name, fact)

    def to_stored_event(self, domain_event: Any) -> StoredEvent:
        """Encode a `Recorded` event."""
        event: Recorded = domain_event
        envelope = _Envelope(
            event_id=event.event_id,
            occurred_at=event.occurred_at,
            schema_version=event.fact.schema_version,
            subject_id=event.subject_id,
            cause=event.cause,
            data=msgspec.Raw(self._encoder.encode(event.fact)),
        )
        return StoredEvent(
            originator_id=event.originator_id,
            originator_version=event.originator_version,
            topic=event.fact.stored_name,
            state=self._encoder.encode(envelope),
        )

    def to_domain_event(self, stored_event: StoredEvent) -> Any:
        """Decode to a `Recorded` event. Raises UnknownFact for a name or version that is not ours."""
        envelope = self._envelope.decode(stored_event.state)
        return Recorded(
            originator_id=stored_event.originator_id,  # type: ignore[arg-type]  # uuid by the store's setting
            originator_version=stored_event.originator_version,
            event_id=envelope.event_id,
            occurred_at=envelope.occurred_at,
            subject_id=envelope.subject_id,
            cause=envelope.cause,
            fact=self._fact(stored_event.topic, envelope),
        )

    def _fact(self, name: str, envelope: _Envelope) -> Fact:
        if name not in self._facts:
            msg = f"the log holds the unknown fact {name!r}"
            raise UnknownFact(msg)
        fact, decoder = self._facts[name]
        if envelope.schema_version == fact.schema_version:
            return decoder.decode(envelope.data)
        if not 1 <= envelope.schema_version < fact.schema_version:
            msg = f"{name} has schema version {envelope.schema_version}, which this program does not know"
            raise UnknownFact(msg)
        data = msgspec.json.decode(envelope.data)
        for version in range(envelope.schema_version, fact.schema_version):
            data = UPCASTS[name, version](data)
        return msgspec.convert(data, fact, strict=False)


def decoder() -> Callable[[Mapping[str, Any]], Recorded]:
    """Return the function that decodes a row of the event log, as a query gives it by column name."""
    mapper = EventMapper()

    def decode(row: Mapping[str, Any]) -> Recorded:
        stored = StoredEvent(row["originator_id"], row["originator_version"], row["topic"], bytes(row["state"]))
        event: Recorded = mapper.to_domain_event(stored)
        return event

    return decode
