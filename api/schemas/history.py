"""Query parameters, bodies and answers about what was, why, and what was a mistake."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from api.schemas.admin import EventAnswer, LastEvent, PersonalData
from api.schemas.anomalies import Reason
from api.schemas.common import Identifier, Name, Timestamp, check_utc, invalid
from api.schemas.license import Limits
from domain.history.past import Moment

_POSITION = r"(?:0|[1-9][0-9]{0,17})"
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
_position = re.compile(_POSITION, re.ASCII)
_A_MOMENT = "a position of the event log, or an RFC 3339 time (write + as %2B)"

AsOfText = Annotated[str, Meta(pattern=f"^(?:{_POSITION}|{_TIME})$", description=_A_MOMENT)]
"""A moment as it is written; `moment_of` reads it."""


def moment_of(text: str, field: str) -> Moment:
    """Read a moment. Raises Invalid that names the field."""
    if _position.fullmatch(text):
        return Moment(position=int(text))
    try:
        return Moment(time=check_utc(msgspec.convert(text, datetime, strict=True), field))
    except msgspec.ValidationError:
        raise invalid(field, f"must be {_A_MOMENT}") from None


class AsOfQuery(msgspec.Struct, kw_only=True):
    """As of when; without it, as it is now."""

    as_of: AsOfText | None = None


class HistoryQuery(msgspec.Struct, kw_only=True):
    """Which part of a long history: events after a position, and how many."""

    after: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100


class ChangeAnswer(msgspec.Struct, kw_only=True):
    """A field that became another, of the licence or, with `hardware_id`, of that device. Null: no value.

    Where the data subject was erased, what is personal is `{"erased": true}`.
    """

    field: str
    hardware_id: str | None
    before: Any
    after: Any


class HistoryEntry(EventAnswer, kw_only=True):
    """An event with what it changed. `version` counts the licence's events; `undoes` is the event that it corrects."""

    version: int
    changes: list[ChangeAnswer]
    address: Any
    api_key: str | None
    undoes: UUID | UnsetType = UNSET


class ErasedBy(msgspec.Struct, kw_only=True):
    """The event by which the licence's customer was erased; `events` shows it in full."""

    event_id: UUID
    position: int
    occurred_at: Timestamp
    actor: str


class HistoryAnswer(msgspec.Struct, kw_only=True):
    """A licence's story, the oldest first. `next` is the `after` that goes on, null at the end."""

    license_id: UUID
    personal_data: PersonalData
    erased_by: ErasedBy | None
    events: list[HistoryEntry]
    next: int | None


class WhyQuery(msgspec.Struct, kw_only=True):
    """Which device, when (default: now), and under which product."""

    hardware_id: Identifier
    at: Timestamp | None = None
    product: Name | None = None


class VerdictAnswer(msgspec.Struct, kw_only=True):
    """What a validation would have been told. The error's fields are null where it was valid, and else the terms."""

    valid: bool
    status: int
    error: str | None
    error_code: str | None
    details: dict[str, Any] | None
    expires_at: Timestamp | None
    features: tuple[str, ...] | None
    limits: Limits | None
    product: str | None
    edition: str | None


class RuleAnswer(msgspec.Struct, kw_only=True):
    """What one rule came to, in the order in which they are asked; `decides` marks the first that refuses."""

    rule: str
    holds: bool
    decides: bool
    error_code: str | None
    because: str
    events: list[EventAnswer]


class WhyAnswer(msgspec.Struct, kw_only=True):
    """The verdict of an instant, rule by rule. `as_of` is null where the licence had not been issued."""

    license_id: UUID
    hardware_id: str
    at: Timestamp
    verdict: VerdictAnswer
    rules: list[RuleAnswer]
    as_of: LastEvent | None
    personal_data: PersonalData


class CorrectionRequest(msgspec.Struct, kw_only=True):
    """Undoes a revocation or a transfer that was a mistake."""

    event_id: UUID
    reason: Reason


class CorrectionAnswer(msgspec.Struct, kw_only=True):
    """The event was undone, by another that names it."""

    license_id: UUID
    event_id: UUID
    type: str
    undoes: UUID
    corrected_at: Timestamp
    limits: Limits
