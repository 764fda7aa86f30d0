"""The DataSubject aggregate: a person whose key was destroyed. Before that there is nothing to decide about one."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from domain.facts import CustomerErased, Fact, Recorded


class DataSubject(msgspec.Struct, kw_only=True):
    """A data subject that was erased, as decisions see it."""

    id: UUID
    version: int
    erased_at: datetime


def evolve(subject: DataSubject | None, event: Recorded) -> DataSubject:
    """Apply an event and return the subject. Raises ValueError out of order.

    One may be erased again: where a part of the database was restored alone, its key was back.
    """
    version = subject.version if subject is not None else 0
    if not isinstance(event.fact, CustomerErased) or event.originator_version != version + 1:
        msg = f"data subject {event.originator_id}: {event.fact.stored_name} is out of order"
        raise ValueError(msg)
    return DataSubject(id=event.originator_id, version=version + 1, erased_at=event.occurred_at)


def erase(subject: DataSubject | None, license_ids: tuple[UUID, ...], sealed: dict[str, bytes]) -> tuple[Fact, ...]:
    """Erase a data subject; one that was erased stays so."""
    return () if subject is not None else (CustomerErased(license_ids=license_ids, sealed=sealed),)
