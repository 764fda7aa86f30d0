"""What the baselines on aiohttp have in common: a plain application on uvloop, until SIGTERM."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import uvloop
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Context = Callable[[web.Application], AsyncIterator[None]]


async def _alive(_: web.Request) -> web.Response:
    return web.Response()


def serve(port: int, handlers: Mapping[str, Handler], context: Context | None = None) -> None:
    """Serve handlers of POST requests by their path; `context` sets up what they need, and puts it away."""
    app = web.Application()
    app.router.add_get("/health/live", _alive)
    for path, handler in handlers.items():
        app.router.add_post(path, handler)
    if context is not None:
        app.cleanup_ctx.append(context)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)
