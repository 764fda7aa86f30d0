"""JSON Schema for readers: a table's row for each field, a type in words, an example value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

_INT64 = (-(2**63), 2**63 - 1)
_EXAMPLES = {
    "uuid": "6f1c6a3e-6f0e-4c0a-9c39-0d6f8f3c2b11",
    "date-time": "2030-01-31T12:00:00Z",
    "boolean": True,
    "number": 1.5,
    "null": None,
}
_SPANS = (("minimum", "maximum", ""), ("minLength", "maxLength", " characters"), ("minItems", "maxItems", " items"))


@dataclass(frozen=True, slots=True)
class Field:
    """A field by its path from the top (`licenses[].customer_id`)."""

    name: str
    schema: Json
    required: bool

    @property
    def type(self) -> str:
        """The type in words."""
        return type_of(self.schema)

    @property
    def description(self) -> str:
        """What the schema says about the field's meaning."""
        return str(_main(self.schema).get("description", ""))

    @property
    def pattern(self) -> str | None:
        """The regular expression that a text must match."""
        return _main(self.schema).get("pattern")

    @property
    def limits(self) -> list[str]:
        """Bounds and default in words; that an integer fits into 64 bits goes without saying."""
        main = _main(self.schema)
        spans = [
            f"{_span(main.get(low), main.get(high))}{unit}" for low, high, unit in _SPANS if {low, high} & set(main)
        ]
        said = [span for span in spans if span]
        default = self.schema.get("default")
        return said if default in (None, "", [], {}) else [*said, f"default {json.dumps(default)}"]


def _span(low: int | None, high: int | None) -> str:
    match low in {None, _INT64[0]}, high in {None, _INT64[1]}:
        case False, False:
            return f"{low} to {high}"
        case False, True:
            return f"at least {low}"
        case True, False:
            return f"at most {high}"
    return ""


def resolved(part: Json, document: Json) -> Json:
    """Follow a reference into the document's components."""
    while "$ref" in part:
        _, _, kind, name = part["$ref"].split("/")
        part = document["components"][kind][name]
    return part


def type_of(schema: Json) -> str:
    """Name a schema's type."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(type_of(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"“{value}”" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type", "any"))


def fields_of(schema: Json, document: Json, prefix: str = "", seen: tuple[str, ...] = ()) -> Iterator[Field]:
    """Give the fields of an object, each followed by the fields inside it."""
    main = _main(schema)
    if "$ref" in main:
        if main["$ref"] in seen:
            return
        seen = (*seen, main["$ref"])
        main = resolved(main, document)
    if main.get("type") == "array":
        yield from fields_of(main.get("items", {}), document, f"{prefix}[]", seen)
    for name, field in main.get("properties", {}).items():
        path = f"{prefix}.{name}" if prefix else name
        yield Field(path, field, required=name in main.get("required", []))
        yield from fields_of(field, document, path, seen)


def example(schema: Json, document: Json) -> Any:
    """Make a value that fits: objects with their required fields only."""
    main = resolved(_main(schema), document)
    if "enum" in main:
        return main["enum"][0]
    match main.get("type"):
        case "object":
            wanted = {name: main["properties"][name] for name in main.get("required", [])}
            return {name: example(field, document) for name, field in wanted.items()}
        case "array":
            return [example(main.get("items", {}), document)]
        case "integer":
            return max(1, main.get("minimum", 1))
    return _EXAMPLES.get(str(main.get("format") or main.get("type")), "text")


def _main(schema: Json) -> Json:
    """Of several choices, take the first."""
    return _main(schema["anyOf"][0]) if "anyOf" in schema else schema
