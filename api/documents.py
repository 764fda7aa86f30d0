"""Each service's OpenAPI document, and the page to browse it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from aiohttp import web

from api.docs_page import STYLESHEET, render
from api.endpoint import Endpoint
from api.errors import status_of
from api.openapi import Json, document

PAGE_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def describe(title: str, description: str, endpoints: Sequence[Endpoint], version: str) -> Json:
    """Make the OpenAPI 3.1 document of some endpoints."""
    return document(title, description, endpoints, status_of, version=version)


def routes(described: Json) -> list[web.RouteDef]:
    """Make the routes that show a document: as JSON, as a page, and the page's stylesheet."""
    as_json = msgspec.json.encode(described)
    page = render(described).encode()
    safe = {"Content-Security-Policy": PAGE_POLICY, "X-Content-Type-Options": "nosniff"}

    async def openapi(_: web.Request) -> web.Response:
        return web.Response(body=as_json, headers={"Content-Type": "application/json; charset=utf-8"})

    async def docs(_: web.Request) -> web.Response:
        return web.Response(body=page, headers={"Content-Type": "text/html; charset=utf-8", **safe})

    async def stylesheet(_: web.Request) -> web.Response:
        return web.Response(text=STYLESHEET, headers={"Content-Type": "text/css; charset=utf-8", **safe})

    return [
        web.RouteDef("GET", "/openapi.json", openapi, {}),
        web.RouteDef("GET", "/docs", docs, {}),
        web.RouteDef("GET", "/docs.css", stylesheet, {}),
    ]
