"""docs/dialects.md leaves out no route, no field of a request, and no error code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from api.endpoint import Dialect, Endpoint
from api.errors import STATUSES, status_of
from api.server import all_in_one
from domain.errors import Refusal

PAGE = (Path(__file__).parents[2] / "docs" / "dialects.md").read_text("utf-8")
ENDPOINTS = [each for each in all_in_one().endpoints if not each.path.startswith("/.well-known/")]
NESTED = {"/api/v1/admin/licenses/bulk-create"}
"""Its one field is a list of what another route takes."""


def section(endpoint: Endpoint) -> str:
    """Return what the page says of a route, up to the next heading."""
    _, heading, rest = PAGE.partition(f"### `{endpoint.method} {endpoint.path}`\n")
    assert heading, f"{endpoint.method} {endpoint.path} has no section"
    return re.split(r"^##", rest, maxsplit=1, flags=re.MULTILINE)[0]


def fields(endpoint: Endpoint) -> Iterator[str]:
    for schema in (endpoint.body, endpoint.query):
        if schema is not None and endpoint.path not in NESTED:
            yield from (field.encode_name for field in msgspec.structs.fields(schema))


def name(endpoint: Endpoint) -> str:
    return f"{endpoint.method} {endpoint.path}"


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=name)
def test_each_route_is_described_with_its_fields(endpoint: Endpoint) -> None:
    said = section(endpoint)
    assert [field for field in fields(endpoint) if f"`{field}`" not in said] == []


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=name)
def test_each_route_says_whether_it_takes_an_idempotency_key(endpoint: Endpoint) -> None:
    assert ("*Idempotent" in section(endpoint)) is endpoint.takes_idempotency_key


@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if e.dialect is Dialect.SERVICES], ids=name)
def test_each_route_of_the_first_dialect_names_its_own_errors(endpoint: Endpoint) -> None:
    if "{license_id}" in endpoint.path:
        return  # The beginning of the section says it for all of them.
    assert [each.code for each in endpoint.refusals if f"`{each.code}`" not in section(endpoint)] == []


def test_no_route_is_described_that_there_is_not() -> None:
    described = set(re.findall(r"^### `([A-Z]+ /[^`]+)`$", PAGE, flags=re.MULTILINE))
    assert described == {name(endpoint) for endpoint in ENDPOINTS}


@pytest.mark.parametrize("refusal", STATUSES, ids=lambda refusal: refusal.__name__)
def test_each_error_code_is_listed_with_its_status(refusal: type[Refusal]) -> None:
    row = re.search(rf"^\| `{refusal.code}` \| ([^|]+) \|", PAGE, flags=re.MULTILINE)
    assert row is not None, f"{refusal.code} is not listed"
    statuses = {status_of(None, refusal)}
    statuses |= {e.statuses[refusal] for e in ENDPOINTS if refusal in e.statuses}
    assert {int(number) for number in re.findall(r"\d{3}", row[1])} == statuses
