"""docs/asyncapi.yaml as a program reads it that knows nothing else of the service."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema_rs import Draft7Validator

PATH = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"


@cache
def document() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(PATH.read_text("utf-8"))
    return parsed


def resolved(part: Any) -> Any:
    """Follow a part's reference, where it is one."""
    while isinstance(part, dict) and "$ref" in part:
        target: Any = document()
        for name in part["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        part = target
    return part


def the_channel() -> dict[str, Any]:
    """Return the channel of the one operation, by which programs receive."""
    (operation,) = document()["operations"].values()
    assert operation["action"] == "receive"
    found: dict[str, Any] = resolved(operation["channel"])
    return found


def messages() -> dict[str, dict[str, Any]]:
    """Return the channel's messages by their AMQP type."""
    found = [resolved(part) for part in the_channel()["messages"].values()]
    return {message["bindings"]["amqp"]["messageType"]: message for message in found}


@cache
def payload_of(type: str) -> Draft7Validator:
    """Return what checks the bodies of a type, formats included."""
    return Draft7Validator(_in_the_document(messages()[type]["payload"]), validate_formats=True)


def _in_the_document(schema: dict[str, Any]) -> dict[str, Any]:
    # References are from the document's root.
    return {"components": document()["components"], **schema}


def flattened(schema: Any) -> tuple[dict[str, list[Any]], set[str]]:
    """Return what a schema says of each property, parts and references followed, and which properties must be there."""
    schema = resolved(schema)
    properties = {name: [part] for name, part in schema.get("properties", {}).items()}
    required = set(schema.get("required", ()))
    for part in schema.get("allOf", ()):
        more, also = flattened(part)
        required |= also
        for name, parts in more.items():
            properties.setdefault(name, []).extend(parts)
    return properties, required
