"""API keys: make one, list all, revoke one."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import msgspec
from msgspec import UNSET

from api.call import Call
from api.endpoint import Auth, Endpoint
from api.responses import Answer, answer
from api.schemas.auth import ApiKeyInfo, ApiKeyList, ApiKeyRequest, NewApiKey
from commands.batch import Outcome
from commands.orders import CreateApiKey, RevokeApiKey
from domain.api_key import DEFAULT_ENDPOINTS, DEFAULT_PER_HOUR, DEFAULT_PER_MINUTE
from domain.errors import NotFound
from infra.api_secrets import digest, new_api_key
from projections import api_keys
from projections.api_keys import ApiKeyView


async def create_api_key(call: Call) -> Answer:
    """Make an API key; the answer is the only place where it is ever shown."""
    body: ApiKeyRequest = call.body
    key = new_api_key()
    order = CreateApiKey(
        cause=call.cause(CreateApiKey),
        now=call.now,
        key_id=uuid4(),
        key_digest=digest(key),
        client_name=body.client_name,
        allowed_endpoints=DEFAULT_ENDPOINTS if body.allowed_endpoints is UNSET else tuple(body.allowed_endpoints),
        requests_per_minute=DEFAULT_PER_MINUTE if body.requests_per_minute is UNSET else body.requests_per_minute,
        requests_per_hour=DEFAULT_PER_HOUR if body.requests_per_hour is UNSET else body.requests_per_hour,
        product=body.product,
        expires_at=body.expires_at,
    )

    def render(_: Outcome, __: Any) -> bytes:
        new = NewApiKey(
            api_key=key,
            key_id=order.key_id,
            client_name=order.client_name,
            allowed_endpoints=list(order.allowed_endpoints),
            requests_per_minute=order.requests_per_minute,
            requests_per_hour=order.requests_per_hour,
            product=order.product,
            created_at=order.now,
            expires_at=order.expires_at,
        )
        return msgspec.json.encode(new)

    return await call.execute(order, render, 201)


async def list_api_keys(call: Call) -> Answer:
    """List all API keys."""
    async with call.services.pool.connection() as connection:
        views = await api_keys.all_keys(connection)
    return answer(200, ApiKeyList(api_keys=[_info(view) for view in views]))


async def revoke_api_key(call: Call) -> Answer:
    """Revoke an API key; a repeat gives the same answer."""
    key_id = call.path_id("key_id")
    if key_id is None:
        raise NotFound("API key not found")
    order = RevokeApiKey(cause=call.cause(RevokeApiKey), now=call.now, key_id=key_id)
    await call.execute(order, lambda _, __: b"")
    async with call.services.pool.connection() as connection:
        view = await api_keys.by_id(connection, key_id)
    assert view is not None
    return answer(200, _info(view))


def _info(view: ApiKeyView) -> ApiKeyInfo:
    return ApiKeyInfo(
        key_id=view.key_id,
        client_name=view.client_name,
        allowed_endpoints=list(view.allowed_endpoints),
        requests_per_minute=view.requests_per_minute,
        requests_per_hour=view.requests_per_hour,
        product=view.product,
        created_at=view.created_at,
        expires_at=view.expires_at,
        revoked_at=view.revoked_at,
    )


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/v1/auth/api-key",
        handler=create_api_key,
        summary="Create an API key",
        auth=Auth.ADMIN_SECRET,
        body=ApiKeyRequest,
        answers={201: NewApiKey},
        takes_idempotency_key=True,
        tag="API keys",
    ),
    Endpoint(
        method="GET",
        path="/api/v1/auth/api-keys",
        handler=list_api_keys,
        summary="List API keys",
        auth=Auth.ADMIN_SECRET,
        answers={200: ApiKeyList},
        tag="API keys",
    ),
    Endpoint(
        method="DELETE",
        path="/api/v1/auth/api-keys/{key_id}",
        handler=revoke_api_key,
        summary="Revoke an API key",
        auth=Auth.ADMIN_SECRET,
        answers={200: ApiKeyInfo},
        refusals=(NotFound,),
        tag="API keys",
    ),
)
