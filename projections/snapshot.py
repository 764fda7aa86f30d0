"""One consistent reading of many rows: all statements of an answer see the same moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

# The memory keeps the grouping of a million usage rows out of temporary files. Compiling expressions for each day's
# partition would take longer than running them.
# The lock comes before the snapshot, and a rebuild's swap waits for it: a snapshot from before the swap would find the
# new tables empty.
_SETTINGS = """
    SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
    LOCK TABLE consumers IN ACCESS SHARE MODE;
    SET LOCAL work_mem = '32MB';
    SET LOCAL jit = off
"""


@asynccontextmanager
async def snapshot(connection: Any) -> AsyncIterator[None]:
    """Read in one transaction that writes nothing and sees nothing which is committed after its first query."""
    async with connection.transaction():
        await connection.execute(_SETTINGS)
        yield
