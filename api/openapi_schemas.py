"""The JSON Schemas of an OpenAPI document: msgspec's, with what it leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from api.endpoint import Endpoint

Json = dict[str, Any]

_REF = "#/components/schemas/{name}"
_INT64 = {"minimum": -(2**63), "maximum": 2**63 - 1}


class Schemas:
    """The schemas of all types that endpoints name.

    They are made in one go, so that structs of one name in different modules get different names. `components` are
    the structs of bodies and answers; query schemas become parameters instead.
    """

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        bodies = [kind for each in endpoints for kind in (each.body, *each.answers.values()) if kind is not None]
        queries = {id(each.query): each.query for each in endpoints if each.query is not None}
        made, components = msgspec.json.schema_components([*bodies, *queries.values()], ref_template=_REF)
        self.components: dict[str, Json] = _bounded(components)
        self._bodies = {id(kind): _bounded(schema) for kind, schema in zip(bodies, made, strict=False)}
        self._queries = {
            key: self.components.pop(reference["$ref"].rpartition("/")[2])
            for key, reference in zip(queries, made[len(bodies) :], strict=True)
        }

    def of(self, kind: Any) -> Json:
        """Give the schema of a body or an answer; structs are references into the components."""
        schema: Json = self._bodies[id(kind)]
        return schema

    def query_parameters(self, query: type[msgspec.Struct]) -> list[Json]:
        """Make a parameter of each field of a query schema."""
        schema = self._queries[id(query)]
        return [
            {"name": name, "in": "query", "required": name in schema["required"], "schema": _without_null(each)}
            for name, each in schema["properties"].items()
        ]


def _bounded(schema: Any) -> Any:
    """Say of every integer that it must fit into 64 bits."""
    if isinstance(schema, list):
        return [_bounded(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    bounds = _INT64 if schema.get("type") == "integer" else {}
    return bounds | {name: _bounded(value) for name, value in schema.items()}


def _without_null(schema: Json) -> Json:
    """Take null off a type: a parameter is absent instead."""
    schema = {name: value for name, value in schema.items() if (name, value) != ("default", None)}
    choices = [choice for choice in schema.pop("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        return {**schema, **choices[0]}
    return {**schema, "anyOf": choices} if choices else schema
