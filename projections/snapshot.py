"""One consistent reading of many rows: all statements of an answer see the same moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

# The memory keeps the grouping of a million usage rows out of temporary files. Compiling expressions for each day's
# partition would take longer than running them.
_SETTINGS = """
    SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SET LOCAL work_mem = '32MB';
    SET LOCAL jit = off
"""


@asynccontextmanager
async def snapshot(connection: Any) -> AsyncIterator[None]:
    """Read in one transaction that writes nothing and sees nothing which is committed after its first query."""
    async with connection.transaction():
        await connection.execute(_SETTINGS)
        yield
