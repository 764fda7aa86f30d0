"""Rows of both logs as messages: CloudEvents 1.0 in JSON. No personal data, no secret, nothing sealed is in them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from domain.facts import AnomalyDetected, AnomalyResolved, CustomerErased, Fact, Recorded, SettingsChanged
from domain.identifiers import usage_row_id
from projections.projection import Log

CONTENT_TYPE = "application/cloudevents+json"

PRIVATE_FIELDS = frozenset({"sealed", "key_sealed", "key_digest", "name_tag"})
"""Fields of facts that never leave the log."""

_LARGEST_POSITION = 2**63 - 1

# In Python `$` would also match before a line feed at the end.
_SEQUENCE = r"^[0-9]{19}\Z"
_SOURCE = r"^/lizenzserver/[^/]+/(events|usage)\Z"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What is published of one row. `type` is the routing key, `position` the row's number in its log."""

    id: str
    type: str
    log: Log
    position: int
    time: datetime
    body: bytes


class Word(NamedTuple):
    """What our own consumers take from a message: how far a log has come, at least."""

    log: Log
    position: int


class NotOurs(ValueError):
    """A message that none of our relays has written."""


class _CloudEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    # The version and the content type are always there, so they have no default to be omitted.
    specversion: Literal["1.0"]
    id: UUID
    source: str
    type: Annotated[str, Meta(min_length=1, max_length=255)]
    time: str
    datacontenttype: Literal["application/json"]
    sequence: Annotated[str, Meta(pattern=_SEQUENCE)]
    data: dict[str, Any]
    subject: str | UnsetType = UNSET


class _Read(msgspec.Struct, frozen=True):
    specversion: Literal["1.0"]
    id: UUID
    source: Annotated[str, Meta(pattern=_SOURCE)]
    type: Annotated[str, Meta(min_length=1, max_length=255)]
    time: datetime
    datacontenttype: Literal["application/json"]
    sequence: Annotated[str, Meta(pattern=_SEQUENCE)]
    data: dict[str, msgspec.Raw]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Read).decode


def of_event(position: int, event: Recorded, instance: str) -> Message:
    """Return the message of an event. `instance` is the fingerprint that names this installation."""
    cause = event.cause
    data = {
        **_public(event.fact),
        **_named(event),
        "version": event.originator_version,
        "actor": cause.actor,
        "command": cause.command,
        "command_id": cause.command_id,
        "request_id": cause.request_id,
        "country": cause.origin.country,
        "network": _hex(cause.origin.network),
    }
    return _message(
        "events",
        position,
        event.event_id,
        event.fact.stored_name,
        event.occurred_at,
        _subject(event),
        data,
        instance,
    )


def of_usage(row: Mapping[str, Any], instance: str) -> Message:
    """Return the message of a row of the usage log, given by column name."""
    data = {
        "operation": row["operation"],
        "license_id": row["license_id"],
        "hardware_id": row["hardware_id"],
        "api_key_id": row["api_key_id"],
        "reason": row["reason"],
        "app_version": row["app_version"],
        "client_time": row["client_time"],
        "country": row["country"],
        "network": _hex(row["network"]),
        "key_hash": _hex(row["key_digest"]),
    }
    id = usage_row_id(instance, row["id"])
    return _message("usage", row["id"], id, row["type"], row["occurred_at"], row["license_id"], data, instance)


def parse(body: bytes, instance: str) -> Word:
    """Return what a message says of its log. Raises NotOurs where it can't be one of this installation's."""
    try:
        read = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotOurs(str(error)) from error
    _, _, named, log = read.source.split("/")
    if named != instance:
        raise NotOurs("it comes from another installation")
    position = int(read.sequence)
    if not 0 < position <= _LARGEST_POSITION:
        raise NotOurs(f"no log has the position {position}")
    return Word("events" if log == "events" else "usage", position)


def _message(  # noqa: PLR0913, PLR0917 - one argument a field
    log: Log,
    position: int,
    id: UUID,
    type: str,
    time: datetime,
    subject: UUID | None,
    data: dict[str, Any],
    instance: str,
) -> Message:
    envelope = _CloudEvent(
        specversion="1.0",
        id=id,
        source=f"/lizenzserver/{instance}/{log}",
        type=type,
        time=_rfc3339(time),
        datacontenttype="application/json",
        sequence=f"{position:019d}",
        data=data,
        subject=UNSET if subject is None else str(subject),
    )
    return Message(id=str(id), type=type, log=log, position=position, time=time, body=_encode(envelope))


def _subject(event: Recorded) -> UUID | None:
    """Return the licence that an event is about; of an API key's event, the key."""
    match event.fact:
        case AnomalyDetected(license_id=license_id) | AnomalyResolved(license_id=license_id):
            return license_id
        case SettingsChanged() | CustomerErased():
            return None
        case _:
            return event.originator_id


def _named(event: Recorded) -> dict[str, Any]:
    """Return the anomaly's id, which is not the subject of its events."""
    is_of_anomaly = isinstance(event.fact, AnomalyDetected | AnomalyResolved)
    return {"anomaly_id": event.originator_id} if is_of_anomaly else {}


def _public(fact: Fact) -> dict[str, Any]:
    """Return a fact's fields, those with their default values included; UNSET ones did not change and are left out."""
    values = ((name, getattr(fact, name)) for name in fact.__struct_fields__ if name not in PRIVATE_FIELDS)
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in values if value is not UNSET}


def _hex(value: bytes | None) -> str | None:
    return None if value is None else bytes(value).hex()


def _rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
