"""A handler that only decodes and encodes the bodies of ours: `python -m bench.baselines.empty_aiohttp PORT`.

The same aiohttp, event loop and msgspec types, without anything in between.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from uuid import UUID

import msgspec
from aiohttp import web

from api.schemas.auth import TokenAnswer, TokenRequest
from api.schemas.license import (
    HeartbeatAnswer,
    HeartbeatLicense,
    HeartbeatRequest,
    Limits,
    ValidAnswer,
    ValidateRequest,
)
from bench.baselines.serving import Handler, serve

LICENSE_ID = UUID(int=7, version=4)
FEATURES = ("draw", "export")
LIMITS = Limits(max_devices=1000, current_devices=1)
TOKEN = "t" * 520
"""As long as the tokens of ours are."""

validate_request = msgspec.json.Decoder(ValidateRequest).decode
heartbeat_request = msgspec.json.Decoder(HeartbeatRequest).decode
token_request = msgspec.json.Decoder(TokenRequest).decode
encode = msgspec.json.Encoder().encode


def answer(content: object) -> web.Response:
    """Return an answer in JSON."""
    return web.Response(body=encode(content), content_type="application/json")


def valid() -> ValidAnswer:
    """Return an answer to a validation."""
    return ValidAnswer(
        license_id=LICENSE_ID,
        expires_at=None,
        features=FEATURES,
        limits=LIMITS,
        product="Planwerk",
        edition="pro",
        validated_at=datetime.now(UTC),
    )


async def validate(request: web.Request) -> web.Response:
    validate_request(await request.read())
    return answer(valid())


async def heartbeat(request: web.Request) -> web.Response:
    heartbeat_request(await request.read())
    license = HeartbeatLicense(license_id=LICENSE_ID, is_active=True, expires_at=None, features=FEATURES, limits=LIMITS)
    return answer(HeartbeatAnswer(server_time=datetime.now(UTC), next_heartbeat_seconds=300, license=license))


async def token(request: web.Request) -> web.Response:
    token_request(await request.read())
    return answer(TokenAnswer(access_token=TOKEN, refresh_token=TOKEN))


HANDLERS: dict[str, Handler] = {
    "/api/v1/license/validate": validate,
    "/api/v1/license/heartbeat": heartbeat,
    "/api/v1/auth/token": token,
}

if __name__ == "__main__":
    serve(int(sys.argv[1]), HANDLERS)
