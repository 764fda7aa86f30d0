"""What an endpoint is: the one declaration from which routing, checking, limits and OpenAPI follow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec

from domain.errors import Refusal

if TYPE_CHECKING:
    from api.call import Call
    from api.responses import Answer

KIB = 1024
MAX_BODY = 64 * KIB
"""Bytes of a request body, on all routes but bulk-create."""


class Auth(Enum):
    """Which credential an endpoint asks for; the value is the OpenAPI security scheme's name."""

    NONE = "none"
    API_KEY = "apiKey"
    BEARER = "bearer"
    ADMIN_KEY = "adminKey"
    ADMIN_SECRET = "adminSecret"  # noqa: S105 - a scheme's name
    CLIENT_TOKEN = "clientToken"  # noqa: S105 - a scheme's name
    ADMIN_TOKEN = "adminToken"  # noqa: S105 - a scheme's name
    EITHER_TOKEN = "eitherToken"  # noqa: S105 - a scheme's name


class Dialect(Enum):
    """Which API document an endpoint belongs to; it decides error shapes."""

    SERVICES = "services"
    LICENSES_API = "licenses-api"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Endpoint:
    """One operation of the HTTP API.

    `path` is aiohttp's route form (`/x/{license_id}`). `answers` maps a 2xx status to the schema of its body.
    `refusals` are the domain errors it can give beside those that its credential and limits imply.
    """

    method: str
    path: str
    handler: Callable[[Call], Awaitable[Answer]]
    summary: str
    auth: Auth
    dialect: Dialect = Dialect.SERVICES
    body: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    answers: dict[int, Any] = field(default_factory=dict)
    refusals: tuple[type[Refusal], ...] = ()
    statuses: dict[type[Refusal], int] = field(default_factory=dict)
    """Statuses that differ here from the dialect's usual ones."""
    takes_idempotency_key: bool = False
    body_required: bool = True
    max_body: int = MAX_BODY
    tag: str = ""
    checks_changes: bool = False
    """The handler itself has it checked that the API key is still good: with its usage row, or with its order."""
    counts_requests: bool = True
    """The pipeline counts requests by credential, else by address; False: the handler counts, by the body's token."""

    @property
    def has_parameters(self) -> bool:
        """Tell whether its path has parameters in it."""
        return "{" in self.path
