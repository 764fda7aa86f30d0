"""The way of every request through its endpoint: credential, limits, body, handler, answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec
import psycopg
from aiohttp import StreamReader, web
from psycopg_pool import PoolTimeout, TooManyRequests

from api.body import decode_object, decode_query, to_struct
from api.call import Call
from api.credentials import Credential, check_headers, identify
from api.endpoint import Auth, Endpoint
from api.errors import refuse
from api.rate_limits import UNLIMITED
from api.reply import Reply
from api.responses import REQUEST_ID, Answer, respond
from api.services import Services
from commands.recorder import OrderOutdated
from domain.errors import Invalid, PayloadTooLarge, Refusal, ServiceUnavailable

log = logging.getLogger(__name__)

BODY_SECONDS = 30.0
"""How long a body may take to arrive."""

MAX_BEGINNINGS = 5
"""How often a request begins anew because of whom it is about was erased under it."""

Handler = Callable[[web.Request], Awaitable[Reply]]

_BY_ADDRESS = frozenset({Auth.NONE, Auth.CLIENT_TOKEN, Auth.EITHER_TOKEN})


def handler_of(endpoint: Endpoint, services: Services) -> Handler:
    """Make the aiohttp handler of an endpoint."""

    async def handle(request: web.Request) -> Reply:
        call = Call(
            request=request,
            endpoint=endpoint,
            services=services,
            request_id=request[REQUEST_ID],
            now=services.clock.now(),
            address=services.client_address.of(request.remote, _forwarded(request)),
            credential=_NOBODY,
            quota=UNLIMITED,
        )
        try:
            answer = await _answer(call)
        except Refusal as refusal:
            answer = refuse(endpoint.dialect, endpoint, refusal, call.request_id)
        except (psycopg.OperationalError, PoolTimeout, TooManyRequests) as error:
            services.metrics.count("database_errors_total", "Requests that the database could not serve")
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning("request %s: the database can't serve: %s", call.request_id, reason)
            services.suspect_connections(error)
            answer = refuse(endpoint.dialect, endpoint, ServiceUnavailable(), call.request_id)
        return respond(answer, call.quota)

    handle.endpoint = endpoint  # type: ignore[attr-defined]
    return handle


_NOBODY = Credential("nobody")


def _forwarded(request: web.Request) -> str | None:
    headers = request.headers
    return ",".join(headers.getall("X-Forwarded-For")) if "X-Forwarded-For" in headers else None


async def _answer(call: Call) -> Answer:
    endpoint, request = call.endpoint, call.request
    check_headers(request)
    call.credential = await identify(request, endpoint, call.services, call.now)
    if endpoint.counts_requests:
        credential = call.credential
        if credential.bucket is not None:
            await call.count(credential.bucket, credential.per_minute, credential.per_hour)
        elif endpoint.auth in _BY_ADDRESS and not credential.actor.startswith("admin:"):
            await call.count_by_address()
    if endpoint.query is not None:
        call.query = decode_query(request.query, endpoint.query)
    elif endpoint.body is None and request.query_string:
        raise Invalid(query="this endpoint takes no parameters")
    if endpoint.body is not None:
        _take_body(call, endpoint.body, await _read(request, endpoint.max_body))
    if endpoint.takes_idempotency_key:
        call.idempotency_key()  # A wrong one is refused before the handler has done anything.
    return await _carried_out(call)


async def _carried_out(call: Call) -> Answer:
    """Have the handler answer, and begin anew where somebody was erased while it was at it."""
    for _ in range(MAX_BEGINNINGS):
        try:
            return await call.endpoint.handler(call)
        except OrderOutdated as outdated:
            call.services.forget_subjects(outdated.erased)
    raise ServiceUnavailable


def _take_body(call: Call, kind: type[msgspec.Struct], raw: bytes) -> None:
    if not raw and not call.endpoint.body_required:
        call.raw_body = {}
    else:
        call.raw_body = decode_object(raw, call.request.headers.get("Content-Type"))
    call.body = to_struct(call.raw_body, kind)


async def _read(request: web.Request, limit: int) -> bytes:
    """Read the body, but no more than may be: what is over the limit, compressed or not, is never held."""
    if (request.content_length or 0) > limit:
        raise PayloadTooLarge(limit_bytes=limit)
    try:
        if request.content.is_eof():  # It came together with the headers, as most do.
            raw = request.content.read_nowait(limit + 1)
            if len(raw) > limit:
                raise PayloadTooLarge(limit_bytes=limit)
            return raw
        async with asyncio.timeout(BODY_SECONDS):
            return await _read_up_to(request.content, limit)
    except TimeoutError:
        raise Invalid(body=f"did not arrive within {BODY_SECONDS:g} seconds") from None
    except ConnectionError:
        raise Invalid(body="ended too early") from None
    except web.RequestPayloadError:
        raise Invalid(body="is not encoded as its headers say") from None


async def _read_up_to(content: StreamReader, limit: int) -> bytes:
    raw = await content.read(limit + 1)
    while raw and len(raw) <= limit and not content.at_eof():
        more = await content.read(limit + 1 - len(raw))
        if not more:
            break
        raw += more
    if len(raw) > limit:
        raise PayloadTooLarge(limit_bytes=limit)
    return raw
