"""Field types that many schemas share, and the rules behind them that JSON Schema alone can't say.

A type carries its rule as a `Rule` in its annotation: `api.body.to_struct` applies it to every field of that type, so
that no handler can forget to. The `Meta` beside it says the same to readers of the OpenAPI document.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from domain.errors import Invalid

MAX_TEXT = 256
"""Characters of an identifier or name."""
MAX_JSON_OBJECT = 16 * 1024
"""Bytes of a metadata or session data object, as compact UTF-8 JSON."""
MAX_FEATURES = 8 * 1024
"""Bytes of all features of a licence, as compact UTF-8 JSON."""
MAX_JSON_OBJECT_DEPTH = 8
"""Levels of a metadata or session data object; the object itself is the first."""

BLANK = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""What `str.strip` takes off, as the inside of a character class that Python and ECMA-262 read alike."""
CONTROL = r"\x00-\x1f\x7f-\x9f"
"""Unicode category Cc, likewise."""
IDENTIFIER_PATTERN = (
    rf"^[{BLANK}]*[^{BLANK}{CONTROL}](?:[^{CONTROL}]{{0,{MAX_TEXT - 2}}}[^{BLANK}{CONTROL}])?[{BLANK}]*$"
)

_control = re.compile(f"[{CONTROL}]")


@dataclass(frozen=True, slots=True)
class Rule:
    """Marks a field's type: `check(value, field)` returns the value to use, or raises Invalid that names the field."""

    check: Callable[[Any, str], Any]


def invalid(field: str, why: str) -> Invalid:
    """Make the refusal that blames one field."""
    return Invalid(None, **{field: why})


def check_identifier(value: str, field: str) -> str:
    """Take the blanks off both ends; 1 to 256 characters must remain, none a control character."""
    text = value.strip()
    if not 1 <= len(text) <= MAX_TEXT:
        raise invalid(field, f"must have 1 to {MAX_TEXT} characters beside blanks at its ends")
    if not text.isprintable() and _control.search(text):
        raise invalid(field, "must not contain control characters")
    return text


def check_features(value: list[str], field: str) -> list[str]:
    """Check each feature as an identifier, and all together: an offline token must hold them."""
    features = [check_identifier(feature, f"{field}[{index}]") for index, feature in enumerate(value)]
    if len(msgspec.json.encode(features)) > MAX_FEATURES:
        raise invalid(field, f"must be at most {MAX_FEATURES} bytes of JSON together")
    return features


def check_name(value: str, field: str) -> str:
    """Return a text of at most 256 characters as it is."""
    if len(value) > MAX_TEXT:
        raise invalid(field, f"must have at most {MAX_TEXT} characters")
    return value


def check_json_object(value: dict[str, Any], field: str) -> dict[str, Any]:
    """Return an object of at most 16 KiB as compact JSON and at most 8 levels as it is."""
    encoded = msgspec.json.encode(value)
    if len(encoded) > MAX_JSON_OBJECT:
        raise invalid(field, f"must be at most {MAX_JSON_OBJECT} bytes of JSON")
    if encoded.count(b"{") + encoded.count(b"[") > MAX_JSON_OBJECT_DEPTH and deeper_than(value, MAX_JSON_OBJECT_DEPTH):
        raise invalid(field, f"must have at most {MAX_JSON_OBJECT_DEPTH} levels")
    return value


def check_utc(value: datetime, field: str) -> datetime:
    """Turn an aware time into UTC. A time without a zone, or outside the years 1 to 9999 in UTC, is refused."""
    if value.tzinfo is UTC:
        return value
    if value.tzinfo is None:
        raise invalid(field, "must have a time zone (RFC 3339)")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise invalid(field, "must lie in the years 1 to 9999 (UTC)") from None


def deeper_than(value: object, levels: int) -> bool:
    """Whether objects and arrays are nested in more than so many levels."""
    layer: list[Any] = [value]
    for _ in range(levels + 1):
        layer = [item for item in layer if isinstance(item, dict | list)]
        if not layer:
            return False
        layer = [child for item in layer for child in (item.values() if isinstance(item, dict) else item)]
    return True


def rfc3339(moment: datetime) -> str:
    """Write an aware time as RFC 3339 in UTC with `Z`: seconds, or microseconds where there are any."""
    text: str = msgspec.to_builtins(moment.astimezone(UTC))
    return text


Identifier = Annotated[
    str,
    Meta(
        min_length=1,
        description=f"1 to {MAX_TEXT} characters beside blanks at its ends, none a control character",
        extra_json_schema={"pattern": IDENTIFIER_PATTERN},
    ),
    Rule(check_identifier),
]
"""What programs call a thing: 1 to 256 characters beside blanks at its ends, compared byte for byte."""
Name = Annotated[str, Meta(max_length=MAX_TEXT)]
"""What people call a thing."""
Feature = Identifier
"""An entitlement's name; the same rule as for identifiers, since programs compare it."""
Features = Annotated[list[Feature], Meta(max_length=200), Rule(check_features)]
"""A licence's entitlements: at most 200, and 8 KiB together."""
JsonObject16K = Annotated[
    dict[str, Any],
    Meta(description=f"Up to {MAX_JSON_OBJECT} bytes of JSON, at most {MAX_JSON_OBJECT_DEPTH} levels"),
    Rule(check_json_object),
]
Timestamp = Annotated[datetime, Meta(tz=True)]
"""A time with a zone; `api.body` turns it into UTC."""
