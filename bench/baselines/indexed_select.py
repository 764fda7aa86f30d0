"""One indexed SELECT a request: `python -m bench.baselines.indexed_select PORT CONNINFO`.

The empty handler, but that it reads the licence by its key, from the same table as ours and over as many connections.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

from aiohttp import web
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from bench.baselines.empty_aiohttp import answer, valid, validate_request
from bench.baselines.serving import serve
from domain.identifiers import license_key_digest

CONNECTIONS = 8
SELECT = "SELECT license_id, max_devices, current_devices, is_active, expires_at FROM licenses WHERE key_digest = %s"
POOL = web.AppKey("pool", AsyncConnectionPool[AsyncConnection[DictRow]])


async def validate(request: web.Request) -> web.Response:
    body = validate_request(await request.read())
    async with request.app[POOL].connection() as connection:
        cursor = await connection.execute(SELECT, (license_key_digest(body.license_key),))
        row = await cursor.fetchone()
    if row is None:
        raise web.HTTPNotFound
    return answer(valid())


async def pooled(app: web.Application) -> AsyncIterator[None]:
    async with AsyncConnectionPool(
        sys.argv[2],
        connection_class=AsyncConnection[DictRow],
        kwargs={"autocommit": True, "row_factory": dict_row},
        min_size=CONNECTIONS,
        max_size=CONNECTIONS,
        open=False,
    ) as pool:
        app[POOL] = pool
        yield


if __name__ == "__main__":
    serve(int(sys.argv[1]), {"/api/v1/license/validate": validate}, pooled)
