"""docs/asyncapi.yaml is sound in itself, and says what the code says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from jsonschema_rs import meta
from msgspec import inspect

from domain.facts import FACTS, Fact
from tests.support.asyncapi import document, flattened, messages, payload_of, resolved, the_channel
from tests.support.usage import OPERATIONS
from workers.broker import EXCHANGE, UNROUTED
from workers.messages import CONTENT_TYPE, PRIVATE_FIELDS

KINDS: dict[type[inspect.Type], tuple[str, str | None]] = {
    inspect.NoneType: ("null", None),
    inspect.BoolType: ("boolean", None),
    inspect.IntType: ("integer", None),
    inspect.StrType: ("string", None),
    inspect.DateTimeType: ("string", "date-time"),
    inspect.UUIDType: ("string", "uuid"),
    inspect.VarTupleType: ("array", None),
    inspect.DictType: ("object", None),
    inspect.LiteralType: ("string", None),
    inspect.BytesType: ("string", None),  # in hex
}
"""JSON type and format of what facts hold."""
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def parts(of: Any, path: str = "#") -> Iterator[tuple[str, Any]]:
    """Give everything that is in the document, with where it is."""
    yield path, of
    inner = of.items() if isinstance(of, dict) else enumerate(of) if isinstance(of, list) else ()
    for name, part in inner:
        yield from parts(part, f"{path}/{name}")


def kinds(found: list[Any]) -> tuple[set[str], set[str]]:
    """Return the JSON types, and the formats, that all of a property's schemas allow."""
    types: set[str] | None = None
    formats: set[str] = set()
    for part in map(resolved, found):
        formats |= {part["format"]} if "format" in part else set()
        if "type" in part:
            stated = {part["type"]} if isinstance(part["type"], str) else set(part["type"])
            types = stated if types is None else types & stated
    return types or set(), formats


def kinds_in_code(kind: inspect.Type) -> tuple[set[str], set[str]]:
    """Return the same of a field's annotation."""
    variants = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    found = [KINDS[type(variant)] for variant in variants]
    return {name for name, _ in found}, {format for _, format in found if format}


def field_types(fact: type[Fact]) -> dict[str, inspect.Type]:
    described = inspect.type_info(fact)
    assert isinstance(described, inspect.StructType)
    return {field.name: field.type for field in described.fields}


def public_fields(fact: type[Fact]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.name: field for field in msgspec.structs.fields(fact) if field.name not in PRIVATE_FIELDS}


def data_of(type: str) -> tuple[dict[str, list[Any]], set[str]]:
    properties, _ = flattened(messages()[type]["payload"])
    found: dict[str, list[Any]] = {}
    required: set[str] = set()
    for part in properties["data"]:
        more, also = flattened(part)
        found |= more
        required |= also
    return found, required


def test_every_reference_leads_somewhere() -> None:
    for path, part in parts(document()):
        if isinstance(part, dict) and "$ref" in part:
            assert resolved(part) is not None, path


def test_there_is_one_message_for_each_routing_key() -> None:
    channel = the_channel()
    keys = channel["parameters"]["routingKey"]["enum"]
    assert set(keys) == set(channel["messages"]) == set(messages()) == set(document()["components"]["messages"])
    for key, message in messages().items():
        assert message["name"] == key
        (own_type,) = [part["const"] for part in flattened(message["payload"])[0]["type"] if "const" in part]
        assert own_type == key


def test_the_types_are_those_of_both_logs() -> None:
    assert set(messages()) == {fact.stored_name for fact in FACTS} | set(OPERATIONS)


def test_the_exchange_is_the_relay_s() -> None:
    binding = the_channel()["bindings"]["amqp"]
    assert binding["exchange"]["name"] == EXCHANGE
    assert binding["x-arguments"] == {"alternate-exchange": UNROUTED}
    assert document()["defaultContentType"] == CONTENT_TYPE


def test_every_schema_is_one() -> None:
    for name, schema in document()["components"]["schemas"].items():
        # The meta-schema knows nothing of references into the document: they are checked above.
        assert meta.is_valid({"$schema": DRAFT_7, **schema}), name


def test_every_property_says_what_it_means() -> None:
    for type in messages():
        for properties in (flattened(messages()[type]["payload"])[0], data_of(type)[0]):
            for name, found in properties.items():
                assert any("description" in resolved(part) for part in found), f"{type}: {name}"


@pytest.mark.parametrize("type", sorted(messages()))
def test_every_message_has_an_example_that_fits(type: str) -> None:
    examples = messages()[type]["examples"]
    assert examples
    for example in examples:
        payload_of(type).validate(example["payload"])
        data, required = data_of(type)
        assert required <= set(example["payload"]["data"]) <= set(data)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.stored_name)
def test_the_data_of_an_event_are_the_fields_of_its_fact(fact: type[Fact]) -> None:
    documented, required = data_of(fact.stored_name)
    cause = set(document()["components"]["schemas"]["EventCause"]["properties"])
    # Beside what the fact holds: whose event it is, where the subject does not say it.
    cause |= {"anomaly_id"} if fact.stored_name.startswith("anomaly.") else set()
    fields = public_fields(fact)
    assert set(documented) - cause == set(fields)
    assert required - cause == {name for name, field in fields.items() if field.default is not msgspec.UNSET}
    types = field_types(fact)
    for name in fields:
        assert kinds(documented[name]) == kinds_in_code(types[name]), name
