"""The services: which endpoints each has, and the aiohttp application that serves them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from api import documents
from api.edge import edge
from api.endpoint import Endpoint
from api.pipeline import handler_of
from api.routes import (
    activate,
    admin_anomalies,
    admin_devices,
    admin_licenses,
    admin_reports,
    analytics,
    anomalies,
    api_keys,
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
        "Licences, devices, reports and anomalies, for administrators.",
        (
            *admin_licenses.ENDPOINTS,
            *admin_devices.ENDPOINTS,
            *admin_reports.ENDPOINTS,
            *admin_anomalies.ENDPOINTS,
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
    app = web.Application(middlewares=[edge(services)], client_max_size=MAX_BODY)
    app.add_routes(_endpoint_routes(service.endpoints, services))
    app.add_routes(health.routes(services))
    described = documents.describe(service.title, service.description, service.endpoints, version)
    app.add_routes(documents.routes(described))
    return app


def _endpoint_routes(endpoints: Sequence[Endpoint], services: Services) -> list[web.RouteDef]:
    return [web.RouteDef(endpoint.method, endpoint.path, handler_of(endpoint, services), {}) for endpoint in endpoints]
