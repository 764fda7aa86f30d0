"""What every request meets first and every answer passes last: request id, error shapes, CORS, metrics, access log."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from random import randbytes
from typing import Any

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.typedefs import Middleware

from api.connections import AnswerUnreadable
from api.endpoint import Dialect
from api.errors import Unexpected, refuse
from api.rate_limits import UNLIMITED_COUNT
from api.reply import SERVER, Reply
from api.responses import RATE_LIMIT_HEADERS, REQUEST_ID, respond
from api.services import Services
from domain.errors import Invalid, MethodNotAllowed, NotFound, PayloadTooLarge, Refusal
from infra.logs import access_logger

log = logging.getLogger(__name__)

UNKNOWN = "unknown"
"""The route of what no route is for."""
LICENSES_API = "/licenses-api/"

_SANE_REQUEST_ID = re.compile(r"(?!(?:sk|adm|ads|clt|adt)_|LIC-|eyJ)[A-Za-z0-9._:/+=-]{1,128}")
"""One that begins like a credential, a licence key or a token is none: events and messages would hold it for ever."""

_CORS_HEADERS = {
    "Access-Control-Allow-Methods": "GET, POST, PATCH, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, X-API-Key, X-Admin-API-Key,"
    " X-Admin-Secret, X-Admin-Token, X-Client-Token, X-Request-ID",
    "Access-Control-Max-Age": "600",
}
_EXPOSED = "X-Request-ID, X-RateLimit-Limit, X-RateLimit-Remaining, Retry-After, Idempotency-Replayed"

_UNLIMITED = dict.fromkeys(RATE_LIMIT_HEADERS, str(UNLIMITED_COUNT))

_VERSIONS = frozenset({HttpVersion10, HttpVersion11})

Response = web.StreamResponse | Reply
Handler = Callable[[web.Request], Awaitable[Response]]


Through = Callable[[web.Request, Handler, str], Awaitable[Any]]
"""Leads a request to its handler, and the answer back; the text is the route's pattern."""


def edge(services: Services) -> Through:
    """Make what every request of a service goes through."""
    origins = frozenset(services.settings.cors_origins)
    access = access_logger()
    metrics = services.metrics

    async def through(request: web.Request, handler: Handler, route: str) -> Any:
        started = time.perf_counter()
        given = request.headers.get("X-Request-ID")
        request_id = given if given and _SANE_REQUEST_ID.fullmatch(given) else _new_request_id()
        request[REQUEST_ID] = request_id
        origin = request.headers.get("Origin")
        if origin in origins and request.method == "OPTIONS":
            response: Response = web.Response(status=204, headers=_CORS_HEADERS)
        else:
            try:
                if request.version not in _VERSIONS:
                    raise Invalid(request="must be HTTP/1.1")  # noqa: TRY301 - one place answers all of them
                response = await handler(request)
            except Exception as error:  # noqa: BLE001 - those that are unexpected are logged
                response = _refused(request, error, request_id)
        if isinstance(response, Reply):
            response.request_id = request_id
        else:
            response.headers.update({"X-Request-ID": request_id, "Server": SERVER, **_UNLIMITED})
        if origins:
            response.headers["Vary"] = "Origin"
            if origin in origins:
                response.headers["Access-Control-Allow-Origin"] = origin or ""
                response.headers["Access-Control-Expose-Headers"] = _EXPOSED
        seconds = time.perf_counter() - started
        metrics.request(request.method if route != UNKNOWN else "ANY", route, response.status, seconds)
        access(request.method, route, response.status, seconds * 1000, request_id)
        return response

    return through


def middleware(through: Through) -> Middleware:
    """Make the one middleware of a service's application."""

    @web.middleware
    def around(request: web.Request, handler: Handler) -> Awaitable[Any]:
        resource = request.match_info.route.resource
        return through(request, handler, resource.canonical if resource else UNKNOWN)

    return around


def answer_unreadable(services: Services) -> AnswerUnreadable:
    """Make the answer to what can't be parsed as HTTP, in the shape of the dialect that it seems to be meant for."""
    access = access_logger()
    metrics = services.metrics

    def unreadable(beginning: bytes) -> Reply:
        request_id = _new_request_id()
        dialect = Dialect.LICENSES_API if b" /licenses-api/" in beginning else Dialect.SERVICES
        response = respond(
            refuse(dialect, None, Invalid(request="is not valid HTTP, or its headers are too long"), request_id)
        )
        response.request_id = request_id
        metrics.request("ANY", "unreadable", response.status, 0.0)
        access("ANY", "unreadable", response.status, 0.0, request_id)
        return response

    return unreadable


def _new_request_id() -> str:
    return randbytes(16).hex()  # noqa: S311 - it is no secret, and the system's random source takes 2 µs


def _refused(request: web.Request, error: Exception, request_id: str) -> Reply:
    """Answer what no endpoint answers for. Raises aiohttp's redirections and the like again."""
    dialect = Dialect.LICENSES_API if request.path.startswith(LICENSES_API) else Dialect.SERVICES
    refusal: Refusal
    match error:
        case Invalid():
            refusal = error
        case web.HTTPMethodNotAllowed():
            refusal = MethodNotAllowed(tuple(sorted(error.allowed_methods)))
        case web.HTTPRequestEntityTooLarge():
            refusal = PayloadTooLarge()
        case web.HTTPNotFound():
            refusal = NotFound("There is no such route")
        case web.HTTPException() if error.status < HTTPStatus.BAD_REQUEST:
            raise error
        case web.HTTPException():
            refusal = Invalid(error.reason)
        case _:
            log.error("unexpected error in request %s", request_id, exc_info=error)
            refusal = Unexpected()
    return respond(refuse(dialect, None, refusal, request_id))
