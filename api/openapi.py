"""OpenAPI 3.1 documents, made from the endpoints' declarations and the schemas that check requests and answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

from api.endpoint import Auth, Endpoint
from api.openapi_errors import StatusOf, error_components, error_responses
from api.openapi_schemas import Schemas
from api.schemas.common import IDENTIFIER_PATTERN
from domain.errors import NotYetSigned

Json = dict[str, Any]

IDEMPOTENCY_KEY: Json = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~](?:[ -~]*[!-~])?$"}
_PATH_PARAMETER = re.compile(r"\{(\w+)(?::[^{}]*(?:\{[^{}]*\}[^{}]*)*)?\}")
_UUID: Json = {"type": "string", "format": "uuid"}
_PATH_SCHEMAS: dict[str, Json] = {
    "license_id": _UUID,
    "key_id": _UUID,
    "event_id": _UUID,
    "anomaly_id": _UUID,
    "hardware_id": {"type": "string", "minLength": 1, "pattern": IDENTIFIER_PATTERN},
}
_SECURITY_SCHEMES: dict[str, Json] = {
    Auth.API_KEY.value: {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    Auth.BEARER.value: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    Auth.ADMIN_KEY.value: {"type": "apiKey", "in": "header", "name": "X-Admin-API-Key"},
    Auth.ADMIN_SECRET.value: {"type": "apiKey", "in": "header", "name": "X-Admin-Secret"},
    Auth.CLIENT_TOKEN.value: {"type": "apiKey", "in": "header", "name": "X-Client-Token"},
    Auth.ADMIN_TOKEN.value: {"type": "apiKey", "in": "header", "name": "X-Admin-Token"},
}
_PARAMETERS: dict[str, Json] = {
    "RequestId": {
        "name": "X-Request-ID",
        "in": "header",
        "description": "The caller's name for this request, for logs; one that is not a sane token is replaced.",
        "schema": {"type": "string"},
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Within 24 hours a repeat with the same key and body gets the first answer and does nothing.",
        "schema": IDEMPOTENCY_KEY,
    },
}
_COUNT: Json = {"type": "integer", "minimum": 0}
_HEADERS: dict[str, Json] = {
    "X-Request-ID": {"description": "Names this request in logs.", "required": True, "schema": {"type": "string"}},
    "X-RateLimit-Limit": {"description": "Requests a minute; 2147483647 stands for no limit.", "schema": _COUNT},
    "X-RateLimit-Remaining": {"description": "Requests left in the minute and the hour.", "schema": _COUNT},
    "Retry-After": {"description": "Whole seconds to wait before a repeat.", "schema": _COUNT},
    "Idempotency-Replayed": {"description": "Only on a repeated answer.", "schema": {"enum": ["true"]}},
}
_ALWAYS = ("X-Request-ID", "X-RateLimit-Limit", "X-RateLimit-Remaining")


def document(title: str, description: str, endpoints: Sequence[Endpoint], status_of: StatusOf, *, version: str) -> Json:
    """Describe a service. `status_of(endpoint, refusal)` is the status that the dialect's error mapper gives."""
    schemas = Schemas(endpoints)
    paths: dict[str, Json] = {}
    for endpoint in endpoints:
        operation = _operation(endpoint, schemas, status_of)
        paths.setdefault(_PATH_PARAMETER.sub(r"{\1}", endpoint.path), {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "description": description, "version": version},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(endpoint.tag for endpoint in endpoints) if tag],
        "paths": paths,
        "components": {
            "schemas": schemas.components | error_components({endpoint.dialect for endpoint in endpoints}),
            "securitySchemes": {name: _SECURITY_SCHEMES[name] for name in _scheme_names(endpoints)},
            "parameters": _PARAMETERS,
            "headers": _HEADERS,
        },
    }


def _scheme_names(endpoints: Iterable[Endpoint]) -> list[str]:
    return list(dict.fromkeys(name for endpoint in endpoints for wanted in _security(endpoint) for name in wanted))


def _security(endpoint: Endpoint) -> list[dict[str, list[str]]]:
    if endpoint.auth is Auth.NONE:
        return []
    if endpoint.auth is Auth.EITHER_TOKEN:
        return [{Auth.CLIENT_TOKEN.value: []}, {Auth.ADMIN_TOKEN.value: []}]
    return [{endpoint.auth.value: []}]


def _operation(endpoint: Endpoint, schemas: Schemas, status_of: StatusOf) -> Json:
    operation: Json = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.summary,
        "tags": [endpoint.tag] if endpoint.tag else [],
        "security": _security(endpoint),
        "parameters": _parameters(endpoint, schemas),
        "responses": _responses(endpoint, schemas, status_of),
    }
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": endpoint.body_required,
            "description": f"At most {endpoint.max_body} bytes; unknown fields are ignored.",
            "content": {"application/json": {"schema": schemas.of(endpoint.body)}},
        }
    return operation


def _operation_id(endpoint: Endpoint) -> str:
    words = _PATH_PARAMETER.sub(r"by_\1", endpoint.path)
    return re.sub(r"\W+", "_", f"{endpoint.method.lower()}{words}").strip("_")


def _parameters(endpoint: Endpoint, schemas: Schemas) -> list[Json]:
    in_path: list[Json] = [
        {"name": name, "in": "path", "required": True, "schema": _PATH_SCHEMAS.get(name, {"type": "string"})}
        for name in _PATH_PARAMETER.findall(endpoint.path)
    ]
    in_query = schemas.query_parameters(endpoint.query) if endpoint.query else []
    shared = ["RequestId", "IdempotencyKey"] if endpoint.takes_idempotency_key else ["RequestId"]
    return in_path + in_query + [{"$ref": f"#/components/parameters/{name}"} for name in shared]


def _responses(endpoint: Endpoint, schemas: Schemas, status_of: StatusOf) -> Json:
    responses: Json = {}
    for status, kind in endpoint.answers.items():
        responses[str(status)] = {"description": endpoint.summary, "headers": _header_refs(endpoint, status)}
        if kind is not None:
            media_type = "text/plain" if kind is str else "application/json"
            responses[str(status)]["content"] = {media_type: {"schema": schemas.of(kind)}}
    for status, response in error_responses(endpoint, status_of).items():
        responses.setdefault(str(status), {**response, "headers": _header_refs(endpoint, status)})
    return dict(sorted(responses.items()))


def _header_refs(endpoint: Endpoint, status: int) -> Json:
    names = list(_ALWAYS)
    waits = status == HTTPStatus.CONFLICT and NotYetSigned in endpoint.refusals
    if waits or status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        names.append("Retry-After")
    if endpoint.takes_idempotency_key and status < HTTPStatus.MULTIPLE_CHOICES:
        names.append("Idempotency-Replayed")
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
