"""The refusals in an OpenAPI document: which an endpoint can give, and their shape in its dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from api.credentials import InvalidClientOrAdminToken
from api.endpoint import Auth, Dialect, Endpoint
from domain.errors import (
    AnswerErased,
    DeviceLimitExceeded,
    EndpointNotAllowed,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    Invalid,
    InvalidToken,
    NotFound,
    PayloadTooLarge,
    RateLimitExceeded,
    Refusal,
    ServiceUnavailable,
    Unauthorized,
)

Json = dict[str, Any]
StatusOf = Callable[[Endpoint, type[Refusal]], int]
"""The HTTP status with which an endpoint gives a refusal."""

_BY_AUTH: dict[Auth, tuple[type[Refusal], ...]] = {
    Auth.NONE: (),
    Auth.API_KEY: (Unauthorized, EndpointNotAllowed),
    Auth.BEARER: (InvalidToken,),
    Auth.CLIENT_TOKEN: (InvalidClientOrAdminToken,),
    Auth.ADMIN_TOKEN: (InvalidClientOrAdminToken,),
    Auth.EITHER_TOKEN: (InvalidClientOrAdminToken,),
}
_WITHOUT_LIMITS = {Auth.ADMIN_KEY, Auth.ADMIN_SECRET, Auth.ADMIN_TOKEN}
_TEXT: Json = {"type": "string"}
_COMPONENTS: dict[Dialect, dict[str, Json]] = {
    Dialect.SERVICES: {
        "Error": {
            "type": "object",
            "description": "Why a request was refused: for people, for programs, and what more there is to say.",
            "properties": {"error": _TEXT, "error_code": _TEXT, "details": {"type": "object"}},
            "required": ["error", "error_code", "details"],
        },
    },
    Dialect.LICENSES_API: {
        "Detail": {
            "type": "object",
            "description": "Why a request was refused.",
            "properties": {"detail": _TEXT},
            "required": ["detail"],
        },
        "MalformedDetail": {
            "type": "object",
            "description": "What is wrong with a request, field by field.",
            "properties": {
                "detail": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"loc": {"type": "array", "items": _TEXT}, "msg": _TEXT},
                        "required": ["loc", "msg"],
                    },
                }
            },
            "required": ["detail"],
        },
        "QuotaDetail": {
            "type": "object",
            "description": "No activation is left.",
            "properties": {
                "detail": {
                    "type": "object",
                    "properties": {
                        "message": _TEXT,
                        "activations": {"type": "integer"},
                        "max_activations": {"type": "integer"},
                    },
                    "required": ["message", "activations", "max_activations"],
                }
            },
            "required": ["detail"],
        },
    },
}


def error_components(dialects: Iterable[Dialect]) -> dict[str, Json]:
    """Give the error schemas of the dialects, by component name."""
    return {name: schema for dialect in Dialect if dialect in dialects for name, schema in _COMPONENTS[dialect].items()}


def error_responses(endpoint: Endpoint, status_of: StatusOf) -> dict[int, Json]:
    """Describe every refusal that an endpoint can give, and the unexpected, by status."""
    by_status: dict[int, list[type[Refusal]]] = {HTTPStatus.INTERNAL_SERVER_ERROR: [Refusal]}
    for refusal in dict.fromkeys((*_implied(endpoint), *endpoint.refusals)):
        by_status.setdefault(status_of(endpoint, refusal), []).append(refusal)
    return {
        status: {
            "description": "; ".join(dict.fromkeys(_meaning(refusal) for refusal in refusals)),
            "content": {"application/json": {"schema": _shape(endpoint.dialect, refusals)}},
        }
        for status, refusals in by_status.items()
    }


def _implied(endpoint: Endpoint) -> Iterable[type[Refusal]]:
    """Give the refusals that follow from an endpoint's credential, parameters, body and limits."""
    yield from _BY_AUTH.get(endpoint.auth, (Unauthorized,))
    yield Invalid
    if "{" in endpoint.path:
        yield NotFound
    if endpoint.auth is not Auth.NONE or endpoint.body or endpoint.query or "{" in endpoint.path:
        yield ServiceUnavailable
    if endpoint.body:
        yield PayloadTooLarge
    if endpoint.takes_idempotency_key:
        yield IdempotencyKeyReused
        yield IdempotencyInProgress
        yield AnswerErased
    if endpoint.auth not in _WITHOUT_LIMITS:
        yield RateLimitExceeded


def _meaning(refusal: type[Refusal]) -> str:
    return "Something unexpected happened" if refusal is Refusal else refusal.message


def _shape(dialect: Dialect, refusals: list[type[Refusal]]) -> Json:
    if dialect is Dialect.SERVICES:
        codes = list(dict.fromkeys(refusal.code for refusal in refusals))
        return {"allOf": [_ref("Error"), {"properties": {"error_code": {"enum": codes}}}]}
    names = list(dict.fromkeys(_licenses_api_shape(refusal) for refusal in refusals))
    return _ref(names[0]) if len(names) == 1 else {"anyOf": [_ref(name) for name in names]}


def _licenses_api_shape(refusal: type[Refusal]) -> str:
    if refusal in {Invalid, IdempotencyKeyReused}:
        return "MalformedDetail"
    return "QuotaDetail" if refusal is DeviceLimitExceeded else "Detail"


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
