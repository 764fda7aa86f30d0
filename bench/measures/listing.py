"""`list`: an administrator's list of licences with filters, its first page against its last.

The issue's question is whether depth costs. The first page also counts what matches; pages by cursor don't. So the last
page is held against both: the first page as it is asked for, and the same licences by a cursor.
"""

from __future__ import annotations

import json
import urllib.request
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import msgspec

from api.cursors import Cursor, cursor_of
from bench.figures import Goal, Result
from bench.lab import Lab
from bench.load import Requests, WrongAnswers, raw_request, write_requests
from bench.servers import Server
from bench.sides import Side, by_latency, load_note, measured
from infra.keyring import Keyring
from infra.postgres import Database
from projections.licenses import LicenseFilter

PATH = "/api/v1/admin/licenses"
PER_PAGE = 50
COMMON = {"product": "Planwerk", "edition": "pro", "is_active": "true"}
RARE = {"product": "Planwerk", "edition": "team"}
"""Matches one licence in a thousand; no index leads to it."""
FIRST, NEWEST, LAST = "page 1, counted", "newest page by cursor", "last page by cursor"
RARE_FIRST, RARE_LAST = "page 1, counted, one in 1,000 matches", "last page, one in 1,000 matches"


def measure(lab: Lab) -> Result:
    """Compare the last page of a long list with the first; one caller."""
    with ExitStack() as stack:
        database = lab.filled_database(lab.sizes.many)
        ours = stack.enter_context(lab.api(database))
        asked = {
            FIRST: COMMON,
            NEWEST: COMMON | {"cursor": _cursor(lab, database, COMMON, last=False)},
            LAST: COMMON | {"cursor": _cursor(lab, database, COMMON, last=True)},
            RARE_FIRST: RARE,
            RARE_LAST: RARE | {"cursor": _cursor(lab, database, RARE, last=True)},
        }
        for name, query in asked.items():
            _check(name, _got(lab, ours, query))
        served = measured(lab, {name: Side(ours, _requests(lab, name, query), 1) for name, query in asked.items()})
    result = Result("list")
    result.comparisons += [
        replace(by_latency("p50", served, ours, base, Goal(1.5, is_limit=True)), name=f"{ours}, p50")
        for ours, base in ((LAST, FIRST), (LAST, NEWEST), (RARE_LAST, RARE_FIRST))
    ]
    result.notes += [
        f"{lab.sizes.many:,} licences, {PER_PAGE} a page, filtered by product, edition and whether active",
        load_note(served),
    ]
    return result


def _cursor(lab: Lab, database: Database, query: dict[str, str], *, last: bool) -> str:
    """Return a cursor to the newest page of a list, or to the last one, as the service would have made it."""
    wanted = LicenseFilter(
        product=query["product"], edition=query["edition"], is_active=True if "is_active" in query else None
    )
    with database.connect(statement_timeout="600s") as connection:
        positions = [
            int(row["position"])
            for row in connection.execute(
                "SELECT position FROM licenses WHERE edition = %s ORDER BY position LIMIT %s",
                (query["edition"], PER_PAGE + 1),
            )
        ]
        row = connection.execute("SELECT max(position) + 1 AS position FROM licenses").fetchone()
    assert row is not None
    # Of fewer than a page, the last page is all there are.
    oldest = positions[PER_PAGE] if len(positions) > PER_PAGE else row["position"]
    place = Cursor(oldest if last else row["position"], total=lab.sizes.many, page=2)
    keyring = Keyring.open(lab.data_dir / "keys", None, None)
    return cursor_of(keyring, place, msgspec.json.encode(wanted))


def _requests(lab: Lab, name: str, query: dict[str, str]) -> Requests:
    headers = {"X-Admin-API-Key": lab.admin_key}
    raw = raw_request("GET", f"{PATH}?{urlencode(query)}", headers)
    return Requests(write_requests(lab.folder / f"list {name}.requests".replace(" ", "-"), [raw]))


def _got(lab: Lab, server: Server, query: dict[str, str]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}{PATH}?{urlencode(query)}", headers={"X-Admin-API-Key": lab.admin_key}
    )
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - as above
        found: dict[str, Any] = json.loads(response.read())
    return found


def _check(name: str, page: dict[str, Any]) -> None:
    """Raise WrongAnswers for a page that is not what its name says."""
    shown, pagination = page["licenses"], page["pagination"]
    whole = len(shown) == min(PER_PAGE, pagination["total"]) or name == RARE_LAST
    is_last = pagination["next_cursor"] is None
    expected = name in (LAST, RARE_LAST) or pagination["total"] <= PER_PAGE
    if not shown or not whole or is_last != expected:
        raise WrongAnswers(f"{name}: {len(shown)} licences, {pagination}")
