"""Strict reading of what clients send: JSON bodies and query parameters. Whatever is wrong becomes Invalid."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import cache
from json import JSONDecodeError, JSONDecoder
from math import isfinite
from typing import Annotated, Any, NoReturn, Protocol, TypeVar

import msgspec

from api.schemas.checking import check_for, problems_of, with_integers, without_marks
from api.schemas.common import deeper_than, invalid
from domain.errors import Invalid

T = TypeVar("T", bound=msgspec.Struct)

MAX_DEPTH = 32
"""Levels of objects and arrays in a body."""
INT64 = range(-(2**63), 2**63)
_INT64_CHARACTERS = 20
_SHOWN = 64
_USUAL_TYPES = frozenset(
    {None, "application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"}
)
_JSON_TYPE = re.compile(r"application/json|[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+\+json", re.ASCII)
_CHARSET = re.compile(r"""charset\s*=\s*"?([^"\s]*)"?""", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,18})", re.ASCII)


class Query(Protocol):
    """Query parameters as aiohttp and yarl give them: names may repeat."""

    def items(self) -> Iterable[tuple[str, str]]:
        """Give each name with its value, in the order sent."""


def decode_object(raw: bytes, content_type: str | None) -> dict[str, Any]:
    """Read a body that must be one JSON object.

    Raises Invalid for anything that RFC 8259 or I-JSON (RFC 7493) refuses: bytes that are not UTF-8, a byte order
    mark, repeated names, NaN and Infinity, unpaired surrogates; and for NUL, numbers beyond int64 or double, more than
    32 levels, and a Content-Type other than JSON in UTF-8 (none at all is taken as JSON).
    """
    if content_type not in _USUAL_TYPES:
        _check_content_type(content_type or "")
    plain = _plain_object(raw)
    if plain is not None:
        return plain
    try:
        text = raw.decode().strip(" \t\n\r")
        value, end = _json.raw_decode(text)
    except UnicodeDecodeError as error:
        raise invalid("body", f"is not UTF-8 at byte {error.start}") from None
    except JSONDecodeError as error:
        raise invalid("body", _why_not_json(raw, error)) from None
    except RecursionError:
        raise invalid("body", f"has more than {MAX_DEPTH} levels") from None
    if end != len(text):
        raise invalid("body", "has something after its JSON value")
    if type(value) is not dict:
        raise invalid("body", "must be a JSON object")
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and deeper_than(value, MAX_DEPTH):
        raise invalid("body", f"has more than {MAX_DEPTH} levels")
    if b"\\" in raw:
        _check_texts(value)
    return value


def _plain_object(raw: bytes) -> dict[str, Any] | None:
    """Read what most bodies are, texts and integers in at most two levels, five times as fast; None for all others.

    With no escape in it and as many colons as names, it has no name twice and no NUL.
    """
    if b"\\" in raw or raw[:1] != b"{":
        return None
    try:
        value = _decode_plain(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    colons = raw.count(b":")
    if colons == len(value):
        return value
    names = len(value) + sum(len(inner) for inner in value.values() if type(inner) is dict)
    return value if colons == names else None


def to_struct(value: dict[str, Any], kind: type[T]) -> T:
    """Check a decoded object against a schema; unknown fields are ignored, nothing is coerced.

    Applies the rules that field types carry (see `api.schemas.common`) and turns times into UTC. Raises Invalid whose
    details say for each wrong field, by path (`licenses[3].max_devices`), why.
    """
    try:
        struct = msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError:
        struct = _second_reading(with_integers(value, kind), kind)
    check = check_for(kind)
    if check is not None:
        check(struct, "")
    return struct


def _second_reading(value: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError:
        raise Invalid(None, **(problems_of(value, kind) or {"body": "does not fit its schema"})) from None


def decode_query(query: Query, kind: type[T]) -> T:
    """Read query parameters into a schema of scalars.

    Booleans are `true` and `false`, integers plain decimals, times RFC 3339. Raises Invalid for unknown, repeated and
    malformed parameters; its details name each.
    """
    parsers = _query_parsers(kind)
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, text in query.items():
        if name not in parsers:
            problems[_shown(name)] = "is not a parameter of this endpoint"
        elif name in values:
            problems[name] = "is given more than once"
        else:
            values[name] = text
            try:
                values[name] = parsers[name](check_text(text, name), name)
            except Invalid as refusal:
                problems |= refusal.details
    if problems:
        raise Invalid(None, **problems)
    return to_struct(values, kind)


def check_text(text: str, field: str) -> str:
    """Return a text from a path, query or header as it is; NUL and bytes that were not UTF-8 are refused."""
    if "\0" in text:
        raise invalid(field, "must not contain NUL")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise invalid(field, "is not valid Unicode") from None
    return text


def _check_content_type(content_type: str) -> None:
    media_type, *parameters = (part.strip() for part in content_type.lower().split(";"))
    if not _JSON_TYPE.fullmatch(media_type):
        raise invalid("Content-Type", "must be application/json")
    for parameter in parameters:
        charset = _CHARSET.fullmatch(parameter)
        if charset and charset[1] not in {"utf-8", "utf8"}:
            raise invalid("Content-Type", "must have the charset utf-8 or none")


def _why_not_json(raw: bytes, error: JSONDecodeError) -> str:
    if not raw.strip():
        return "is empty"
    if raw.startswith(b"\xef\xbb\xbf"):
        return "starts with a byte order mark"
    return f"is not JSON: {error.msg} at character {error.pos}"


def _check_texts(root: dict[str, Any]) -> None:
    """Refuse NUL and unpaired surrogates, which only an escape can bring into a valid body."""
    pending: list[Any] = [root]
    for value in pending:
        if isinstance(value, str):
            check_text(value, "body")
        elif isinstance(value, dict):
            pending.extend(value)
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


def _shown(text: str) -> str:
    """Make a client's text fit for an answer: short, and valid Unicode."""
    return text[:_SHOWN].encode("utf-8", "backslashreplace").decode()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        repeated = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise invalid(_shown(repeated), "appears more than once in one object")
    return result


def _integer(digits: str) -> int:
    number = int(digits) if len(digits) <= _INT64_CHARACTERS else INT64.stop
    if number not in INT64:
        raise invalid("body", f"has an integer outside 64 bits: {digits[:_SHOWN]}")
    return number


def _number(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise invalid("body", f"has a number that is too large: {digits[:_SHOWN]}")
    return number


def _constant(name: str) -> NoReturn:
    raise invalid("body", f"has {name}, which is not JSON")


_json = JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant)


_Plain = str | bool | Annotated[int, msgspec.Meta(ge=INT64.start, le=INT64.stop - 1)] | None
_decode_plain = msgspec.json.Decoder(dict[str, _Plain | dict[str, _Plain]]).decode


def _as_sent(text: str, name: str) -> str:  # noqa: ARG001 - one signature for all parsers
    return text


def _as_integer(text: str, name: str) -> int:
    if not _DECIMAL.fullmatch(text) or int(text) not in INT64:
        raise invalid(name, "must be a decimal integer")
    return int(text)


def _as_boolean(text: str, name: str) -> bool:
    if text not in {"true", "false"}:
        raise invalid(name, "must be true or false")
    return text == "true"


def _as_time(text: str, name: str) -> datetime:
    try:
        return msgspec.convert(text, datetime, strict=True)
    except msgspec.ValidationError:
        raise invalid(name, "must be an RFC 3339 time (write + as %2B)") from None


_PARSERS: dict[Any, Callable[[str, str], Any]] = {int: _as_integer, bool: _as_boolean, datetime: _as_time}


@cache
def _query_parsers(kind: type[msgspec.Struct]) -> dict[str, Callable[[str, str], Any]]:
    fields = msgspec.structs.fields(kind)
    return {field.encode_name: _PARSERS.get(without_marks(field.type), _as_sent) for field in fields}
