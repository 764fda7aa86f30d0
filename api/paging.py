"""Pages of a list, by number or by cursor, the same for every list that has both."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import msgspec

from api.cursors import Cursor, cursor_of, read_cursor
from api.schemas.admin import Pagination
from infra.keyring import Keyring


class Positioned(Protocol):
    """A row with its place in the list: the log position that made it."""

    @property
    def position(self) -> int:
        """Later ones come first in lists."""


Row = TypeVar("Row", bound=Positioned)
Filter = TypeVar("Filter", bound=msgspec.Struct)
Filter_contra = TypeVar("Filter_contra", contravariant=True)


class Listed(Protocol[Filter_contra, Row]):
    """What there is a list of: a module with its queries."""

    async def page(self, connection: Any, wanted: Filter_contra, *, offset: int, limit: int) -> tuple[list[Row], int]:
        """Return up to `limit` rows after skipping `offset`, the newest first, and how many match in all."""

    async def page_before(self, connection: Any, wanted: Filter_contra, *, position: int, limit: int) -> list[Row]:
        """Return up to `limit` rows from before a log position, the newest first."""


class PageQuery(Protocol):
    """The query parameters that name a page."""

    page: int
    per_page: int
    cursor: str | None


async def read_page(
    keyring: Keyring, connection: Any, of: Listed[Filter, Row], wanted: Filter, query: PageQuery
) -> tuple[list[Row], Pagination]:
    """Read the page that a query names, of what a filter wants. Raises Invalid for a cursor of another list."""
    filters = msgspec.json.encode(wanted)
    if query.cursor is not None:
        cursor = read_cursor(keyring, query.cursor, filters)
        # One more than shown tells whether there is a next page.
        found = await of.page_before(connection, wanted, position=cursor.position, limit=query.per_page + 1)
        rows, more = found[: query.per_page], len(found) > query.per_page
        page, total = cursor.page, cursor.total
    else:
        offset = (query.page - 1) * query.per_page
        rows, total = await of.page(connection, wanted, offset=offset, limit=query.per_page)
        page = query.page
        more = offset + len(rows) < total and bool(rows)
    pagination = Pagination(
        page=page,
        per_page=query.per_page,
        total=total,
        pages=-(-total // query.per_page),
        next_cursor=cursor_of(keyring, Cursor(rows[-1].position, total, page + 1), filters) if more else None,
    )
    return rows, pagination
