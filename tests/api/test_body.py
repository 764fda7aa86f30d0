"""Whatever a client sends becomes a checked value or Invalid that names what is wrong; never another exception."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Meta, UnsetType
from multidict import MultiDict
from yarl import URL

from api import body
from api.body import MAX_DEPTH, check_text, decode_object, decode_query, to_struct
from api.schemas.common import (
    BLANK,
    CONTROL,
    Identifier,
    JsonObject16K,
    Name,
    Timestamp,
    check_identifier,
    check_json_object,
    check_name,
    rfc3339,
)
from domain.errors import Invalid

JSON = "application/json"


class Row(msgspec.Struct):
    customer_id: Identifier
    max_devices: Annotated[int, Meta(ge=1, le=100_000)] = 5


class Order(msgspec.Struct, frozen=True):
    licenses: Annotated[list[Row], Meta(max_length=3)] = []
    hardware_id: Identifier | None = None
    name: Name | UnsetType = UNSET
    ratio: float = 0.0
    metadata: JsonObject16K | None = None
    expires_at: Timestamp | None = None
    key: UUID | None = None
    renamed: int = msgspec.field(default=0, name="otherName")


class Filter(msgspec.Struct):
    page: Annotated[int, Meta(ge=1)] = 1
    is_active: bool | None = None
    since: Timestamp | None = None
    license_id: UUID | None = None
    customer_id: Identifier | None = None


def refusal_of(raw: bytes, content_type: str | None = JSON) -> dict[str, Any]:
    with pytest.raises(Invalid) as caught:
        decode_object(raw, content_type)
    msgspec.json.encode(caught.value.details)  # An answer can say it.
    return caught.value.details


def struct_refusal_of(value: dict[str, Any]) -> dict[str, Any]:
    with pytest.raises(Invalid) as caught:
        to_struct(value, Order)
    return caught.value.details


@pytest.mark.parametrize(
    "raw, why",
    [
        (b'{"a":"\xff"}', "is not UTF-8 at byte 6"),
        (b'{"a":"\xed\xa0\x80"}', "is not UTF-8"),
        ('{"a":1}'.encode("utf-16"), "is not UTF-8"),
        (b'\xef\xbb\xbf{"a":1}', "byte order mark"),
        (b"", "is empty"),
        (b" \n ", "is empty"),
        (b"{", "is not JSON"),
        (b"{'a':1}", "is not JSON"),
        (b'{"a":01}', "is not JSON"),
        (b'{"a":1,}', "is not JSON"),
        (b'{"a":"\x00"}', "is not JSON"),
        (b'{"a":"\n"}', "is not JSON"),
        (b'{"a":1}{"b":2}', "something after"),
        (b'{"a":1}\xc2\xa0', "something after"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"a"', "must be a JSON object"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":Infinity}', "Infinity"),
        (b'{"a":[-Infinity]}', "-Infinity"),
        (b'{"a":"\\u0000"}', "NUL"),
        (b'{"a":[{"\\u0000":1}]}', "NUL"),
        (b'{"a":"\\ud800"}', "not valid Unicode"),
        (b'{"a":"\\udc00\\ud800"}', "not valid Unicode"),
        (b'{"\\ud800":1}', "not valid Unicode"),
        (b'{"a":9223372036854775808}', "64 bits"),
        (b'{"a":-9223372036854775809}', "64 bits"),
        (b'{"a":' + b"9" * 5000 + b"}", "64 bits"),
        (b'{"a":1e400}', "too large"),
        (b'{"a":' + b"9" * 5000 + b".0}", "too large"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "levels"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "levels"),
        (b'{"a":' + b"[" * 60_000, "levels"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_malformed_body_is_named(raw: bytes, why: str) -> None:
    assert why in refusal_of(raw)["body"]


@pytest.mark.parametrize(
    "raw, name",
    [(b'{"a":1,"a":2}', "a"), (b'{"x":[{"b":1,"c":2,"b":1}]}', "b"), (b'{"\\ud800":1,"\\ud800":2}', "\\ud800")],
)
def test_duplicate_names_are_refused_at_any_level(raw: bytes, name: str) -> None:
    assert refusal_of(raw) == {name: "appears more than once in one object"}


@pytest.mark.parametrize(
    "raw, value",
    [
        (b' {"a": 1}\r\n', {"a": 1}),
        (b'{"a":-9223372036854775808,"b":9223372036854775807}', {"a": -(2**63), "b": 2**63 - 1}),
        (b'{"a":"\\ud83d\\ude00\\\\u0000"}', {"a": "\U0001f600\\u0000"}),
        (b"{" + b'"a":[' + b"[]," * 40 + b"[]]}", {"a": [[]] * 41}),
        (b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH, json.loads('{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH)),
    ],
)
def test_what_is_json_is_read(raw: bytes, value: dict[str, Any]) -> None:
    assert decode_object(raw, JSON) == value


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json",
        "Application/JSON ; Charset=UTF-8",
        'application/json;charset="utf-8"',
        "application/problem+json",
        "application/json; version=1",
    ],
)
def test_json_content_types_are_taken(content_type: str | None) -> None:
    assert decode_object(b"{}", content_type) == {}


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "json",
        "application/json; charset=latin-1",
    ],
)
def test_other_content_types_are_refused(content_type: str) -> None:
    assert list(refusal_of(b"{}", content_type)) == ["Content-Type"]


any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(codec=None, exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def is_fine(value: Any) -> bool:
    match value:
        case float():
            return abs(value) < float("inf")
        case int():
            return -(2**63) <= value < 2**63
        case str():
            return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
        case dict():
            return all(is_fine(name) and is_fine(item) for name, item in value.items())
        case list():
            return all(is_fine(item) for item in value)
    return True


@given(value=any_json, escaped=st.booleans())
def test_any_json_value_round_trips_or_is_refused(*, value: Any, escaped: bool) -> None:
    raw = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    value = json.loads(raw)  # Two escapes that make a pair are one character.
    if isinstance(value, dict) and is_fine(value):
        assert decode_object(raw, JSON) == value
    else:
        refusal_of(raw)


@given(st.binary() | st.text('{}[]":,\\u0d8atrue1e9-.').map(str.encode))
def test_any_bytes_are_an_object_or_refused(raw: bytes) -> None:
    try:
        assert isinstance(decode_object(raw, JSON), dict)
    except Invalid as refusal:
        assert refusal.details  # noqa: PT017 - either outcome is right


# Unpaired surrogates and the like are refused before: see above.
@given(any_json.filter(is_fine))
def test_any_value_fits_a_schema_or_is_refused(value: Any) -> None:
    fields = Order.__struct_encode_fields__
    try:
        assert isinstance(to_struct(dict.fromkeys(fields, value), Order), Order)
    except Invalid as refusal:
        assert refusal.details  # noqa: PT017 - either outcome is right


def test_every_wrong_field_is_named_by_its_path() -> None:
    assert struct_refusal_of(
        {
            "licenses": [{"customer_id": "a"}, {"max_devices": "3"}, {"customer_id": " ", "max_devices": 0}],
            "key": "x",
            "otherName": True,
            "expires_at": "2030-01-01",
            "metadata": [],
        }
    ) == {
        "licenses[1].customer_id": "is required",
        "licenses[1].max_devices": "expected integer, got string",
        "licenses[2].max_devices": "expected integer >= 1",
        "key": "invalid UUID",
        "otherName": "expected integer, got boolean",
        "expires_at": "invalid RFC3339 encoded datetime",
        "metadata": "expected object or null, got array",
    }


def test_rules_are_applied_to_every_field_and_item() -> None:
    rows = [{"customer_id": "a\x07"}, {"customer_id": "b"}, {"customer_id": " "}]

    assert struct_refusal_of({"licenses": rows, "hardware_id": "x" * 257}) == {
        "licenses[0].customer_id": "must not contain control characters",
        "licenses[2].customer_id": "must have 1 to 256 characters beside blanks at its ends",
        "hardware_id": "must have 1 to 256 characters beside blanks at its ends",
    }


def test_a_list_that_is_too_long_is_named() -> None:
    assert struct_refusal_of({"licenses": [{"customer_id": "a"}] * 4}) == {"licenses": "expected array of length <= 3"}


def test_a_thousand_wrong_rows_are_not_all_named() -> None:
    assert len(struct_refusal_of({"licenses": [{}] * 1000})) == 100


def test_good_fields_are_taken_trimmed_and_in_utc() -> None:
    order = to_struct(
        {
            "licenses": [{"customer_id": "\tc\u00a0", "unknown": 1}],
            "hardware_id": " h w ",
            "expires_at": "2030-01-01T02:00:00+02:00",
            "ratio": 1,
            "otherName": 5.0,
            "unknown": {},
        },
        Order,
    )

    assert order == Order(
        licenses=[Row("c")], hardware_id="h w", expires_at=datetime(2030, 1, 1, tzinfo=UTC), ratio=1.0, renamed=5
    )
    assert order.expires_at is not None
    assert order.expires_at.tzinfo is UTC


@pytest.mark.parametrize("value", [5.5, 2.0**60, "5", None, True])
def test_what_is_no_integer_is_refused(value: Any) -> None:
    assert list(struct_refusal_of({"otherName": value})) == ["otherName"]


@pytest.mark.parametrize(
    "text",
    [
        "2030-01-01T00:00:00",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "2030-02-30T00:00:00Z",
        "2030-01-01T24:00:00Z",
        "",
        0,
    ],
)
def test_times_that_are_none_or_outside_the_calendar_are_refused(text: Any) -> None:
    assert list(struct_refusal_of({"expires_at": text})) == ["expires_at"]


@given(st.text())
def test_an_identifier_is_trimmed_or_refused(text: str) -> None:
    trimmed = text.strip()
    try:
        assert check_identifier(text, "id") == trimmed
        assert 1 <= len(trimmed) <= 256
        assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in trimmed)
    except Invalid as refusal:
        assert list(refusal.details) == ["id"]  # noqa: PT017 - either outcome is right


def test_the_patterns_blanks_are_those_that_strip_takes() -> None:
    everything = [chr(code) for code in range(sys.maxunicode + 1)]

    assert [c for c in everything if re.match(f"[{BLANK}]", c)] == [c for c in everything if not c.strip()]
    assert [c for c in everything if re.match(f"[{CONTROL}]", c)] == [
        chr(code) for code in (*range(32), *range(127, 160))
    ]


def test_names_and_json_objects_are_bounded() -> None:
    assert check_name("x" * 256, "name") == "x" * 256
    assert check_json_object({"a": "x" * 16_376}, "metadata")
    with pytest.raises(Invalid):
        check_name("x" * 257, "name")
    with pytest.raises(Invalid):
        check_json_object({"a": "x" * 16_377}, "metadata")
    assert struct_refusal_of({"metadata": nested(9)}) == {"metadata": "must have at most 8 levels"}
    assert to_struct({"metadata": nested(8)}, Order).metadata == nested(8)


def nested(levels: int) -> Any:
    return {} if levels == 1 else {"a": nested(levels - 1)}


@pytest.mark.parametrize(
    "moment, text",
    [
        (datetime(2030, 1, 1, tzinfo=UTC), "2030-01-01T00:00:00Z"),
        (datetime(2030, 1, 1, 0, 0, 0, 5, tzinfo=UTC), "2030-01-01T00:00:00.000005Z"),
        (datetime.fromisoformat("2030-01-01T02:00:00+02:00"), "2030-01-01T00:00:00Z"),
    ],
)
def test_times_are_written_in_utc(moment: datetime, text: str) -> None:
    assert rfc3339(moment) == text


def test_query_parameters_are_read() -> None:
    query = URL(
        "/?page=2&is_active=true&since=2030-01-01T02:00:00%2B02:00&customer_id=%20c%20"
        "&license_id=6f1c6a3e-6f0e-4c0a-9c39-0d6f8f3c2b11"
    ).query

    assert decode_query(query, Filter) == Filter(
        page=2,
        is_active=True,
        since=datetime(2030, 1, 1, tzinfo=UTC),
        license_id=UUID("6f1c6a3e-6f0e-4c0a-9c39-0d6f8f3c2b11"),
        customer_id="c",
    )
    assert decode_query(MultiDict(), Filter) == Filter()


@pytest.mark.parametrize(
    "name, value",
    [
        *[("page", text) for text in ("", "0", "-1", "1.0", "1e3", "+1", " 1", "01", "٣", "1_0", "null", "9" * 30)],
        ("page", str(2**63)),
        *[("is_active", text) for text in ("", "1", "True", "TRUE", "yes", "null")],
        *[("since", text) for text in ("", "5", "null", "2030-01-01T00:00:00 02:00", "2030-01-01T00:00:00")],
        ("since", "10000-01-01T00:00:00Z"),
        ("since", "0001-01-01T00:00:00+01:00"),
        *[("license_id", text) for text in ("", "x", "null")],
        *[("customer_id", text) for text in ("", "a\0", "a\ud800", "a\x1bb")],
    ],
)
def test_malformed_parameters_are_named(name: str, value: str) -> None:
    with pytest.raises(Invalid) as caught:
        decode_query(MultiDict({name: value}), Filter)
    assert list(caught.value.details) == [name]


def test_unknown_and_repeated_parameters_are_named() -> None:
    with pytest.raises(Invalid) as caught:
        decode_query(MultiDict([("page", "1"), ("page", "2"), ("pge\ud800", "1")]), Filter)
    assert caught.value.details == {
        "page": "is given more than once",
        "pge\\ud800": "is not a parameter of this endpoint",
    }


@pytest.mark.parametrize("text", ["a\0", "\ud800"])
def test_texts_that_cannot_be_stored_are_refused(text: str) -> None:
    assert check_text("é", "hardware_id") == "é"
    with pytest.raises(Invalid):
        check_text(text, "hardware_id")


PLAIN = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "é", "a:b", "\\u0061"]),
        st.sampled_from(
            [
                *('"x"', '"x:y"', '""', "null", "true", "[]", '"\\n"', '"é"', '"\\u0000"', ""),
                *("1", "-0", "1.0", "1e2", str(2**63 - 1), str(2**63), str(2**64), "1" + "0" * 400),
                *("{}", '{"a":"b"}', '{"a":1,"b":false}', '{"a":1,"a":2}', '{"a":1.5}', '{"a":{"b":1}}', '{"a":"b:c"}'),
            ]
        ),
    ),
    max_size=3,
).map(lambda members: "{" + ",".join(f'"{name}":{value}' for name, value in members) + "}")
"""Objects as most bodies are, nearly."""


@given(PLAIN)
def test_the_quick_reading_of_plain_bodies_changes_no_answer(text: str) -> None:
    def said(read: Callable[[], Any]) -> Any:
        try:
            return repr(read())  # 1 is equal to true, and to 1.0.
        except Invalid as refusal:
            return refusal.details

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(body, "_plain_object", lambda _: None)
        slowly = said(lambda: decode_object(text.encode(), JSON))
    assert said(lambda: decode_object(text.encode(), JSON)) == slowly
