"""The services: which endpoints each has, and the aiohttp application that serves them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from api import documents
from api.connections import SHORTCUTS
from api.edge import Through, edge, middleware
from api.endpoint import Endpoint
from api.pipeline import Handler, handler_of
from api.reply import Reply, route
from api.routes import (
    activate,
    admin_anomalies,
    admin_customers,
    admin_devices,
    admin_history,
    admin_licenses,
    admin_reports,
    analytics,
    anomalies,
    api_keys,
    audit,
    health,
    heartbeat,
    licenses_api_admin,
    licenses_api_client,
    offline,
    tokens,
    validate,
)
from api.services import Services

MAX_BODY = 4 * 1024 * 1024 + 1024
"""Bytes that aiohttp lets through; each endpoint has its own limit below."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service: its name on the command line, its title, what it is for, and its endpoints."""

    name: str
    title: str
    description: str
    endpoints: tuple[Endpoint, ...]


SERVICES: tuple[Service, ...] = (
    Service(
        "auth",
        "Auth service",
        "Tokens and API keys.",
        (*tokens.ENDPOINTS, *api_keys.ENDPOINTS, tokens.JWKS),
    ),
    Service(
        "license",
        "License service",
        "Validation and activation, for programs; and the whole second dialect under /licenses-api/v1.",
        (
            *validate.ENDPOINTS,
            *activate.ENDPOINTS,
            *heartbeat.ENDPOINTS,
            *offline.ENDPOINTS,
            *licenses_api_client.ENDPOINTS,
            *licenses_api_admin.ENDPOINTS,
            tokens.JWKS,
        ),
    ),
    Service(
        "analytics",
        "Analytics service",
        "How licences are used, and what is wrong with that.",
        (*analytics.ENDPOINTS, *anomalies.ENDPOINTS, tokens.JWKS),
    ),
    Service(
        "admin",
        "Admin service",
        "Licences, devices, customers, reports and anomalies, for administrators; proofs, for auditors.",
        (
            *admin_licenses.ENDPOINTS,
            *admin_devices.ENDPOINTS,
            *admin_customers.ENDPOINTS,
            *admin_history.ENDPOINTS,
            *admin_reports.ENDPOINTS,
            *admin_anomalies.ENDPOINTS,
            *audit.ENDPOINTS,
            tokens.JWKS,
        ),
    ),
)


def all_in_one() -> Service:
    """Return one service with every endpoint, for a single port."""
    endpoints = dict.fromkeys(endpoint for service in SERVICES for endpoint in service.endpoints)
    return Service("all", "Licensing services", "All services on one port.", tuple(endpoints))


def application(service: Service, services: Services, version: str) -> web.Application:
    """Make the aiohttp application of a service."""
    through = edge(services)
    app = web.Application(middlewares=[middleware(through)], client_max_size=MAX_BODY)
    handlers = {endpoint: handler_of(endpoint, services) for endpoint in service.endpoints}
    app.add_routes([route(endpoint.method, endpoint.path, handler) for endpoint, handler in handlers.items()])
    app[SHORTCUTS] = {
        (endpoint.method, endpoint.path): _shortcut(through, handler, endpoint.path)
        for endpoint, handler in handlers.items()
        if not endpoint.has_parameters
    }
    app.add_routes(health.routes(services))
    described = documents.describe(service.title, service.description, service.endpoints, version)
    app.add_routes(documents.routes(described))
    return app


def _shortcut(through: Through, handler: Handler, path: str) -> Callable[[web.Request], Awaitable[Reply]]:
    def lead(request: web.Request) -> Awaitable[Reply]:
        return through(request, handler, path)

    return lead
