"""What every service answers is what its OpenAPI document says, for data that the document allows and for data it forbids.

Cases are made by schemathesis from the document that the running service shows, the same ones in every run.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core import NotSet
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.endpoint import Endpoint
from api.server import SERVICES, all_in_one
from tests.support.client import Secrets
from tests.support.ports import Ports
from tests.support.world import World



def _takes_something(endpoint: Endpoint) -> bool:
    """Whether a document can forbid anything of a request: one without parameters and body takes none amiss."""
    return bool(endpoint.body or endpoint.query or "{" in endpoint.path)


CASES = {True: (40, 25), False: (12, 8)}
"""Allowed and forbidden cases an operation: of a service of its own, and of the merged one that shows them again."""

CONFORMANCE = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
OPERATIONS = [
    pytest.param(service.name, endpoint, id=f"{service.name}: {endpoint.method} {endpoint.path}")
    for service in (*SERVICES, all_in_one())
    for endpoint in service.endpoints
]
FORBIDDING = [
    each for each in OPERATIONS if isinstance(each.values[1], Endpoint) and _takes_something(each.values[1])
]
REJECTED = SchemathesisConfig.from_dict(
    # A path that can't name anything names nothing (404), and some bodies are wrong by being too large (413).
    {"checks": {"negative_data_rejection": {"expected-statuses": [400, 404, 413, 422]}}}
)
IDS = ("license_id", "license_key", "hardware_id", "refresh_token", "token", "email", "device_hash", "license_key_hash")

_addresses = count()
from collections import defaultdict, Counter
STATS=defaultdict(Counter)
import atexit
atexit.register(lambda: open('/tmp/exp/st.stats','w').write("\n".join(f"{k} {dict(v)}" for k,v in STATS.items())))


@pytest.fixture(scope="module")
def documents(ports: Ports) -> dict[str, BaseSchema]:
    urls = {name: f"{ports.base(name)}/openapi.json" for name in ports.ports}
    return {name: schemathesis.openapi.from_url(url, config=REJECTED) for name, url in urls.items()}


@pytest.fixture(scope="module")
def session(world: World) -> Any:
    with requests.Session() as opened:
        secrets = Secrets()
        opened.headers.update(
            {
                "X-API-Key": world.client.api_key,
                "X-Admin-API-Key": secrets.admin_api_key,
                "X-Admin-Secret": secrets.admin_secret,
            }
        )
        yield opened


def test_the_documents_are_valid_openapi(documents: dict[str, BaseSchema]) -> None:
    for document in documents.values():
        assert document.raw_schema["openapi"] == "3.1.0"
        document.validate()


@pytest.mark.parametrize("service, endpoint", OPERATIONS)
def test_allowed_requests(
    documents: dict[str, BaseSchema], session: requests.Session, world: World, service: str, endpoint: Endpoint
) -> None:
    operation = documents[service][endpoint.path][endpoint.method]

    @_examples(CASES[service != "all"][0])
    @given(case=operation.as_strategy(GenerationMode.POSITIVE), seat=st.integers(0, len(world.seats) - 1), real=st.sets(st.sampled_from(IDS)))
    def check(case: Case, seat: int, real: set[str]) -> None:
        _make_real(case, world, seat, real)
        r=case.call_and_validate(session=session, headers=_credentials(endpoint, world, seat), checks=CONFORMANCE)
        STATS[service,endpoint.method,endpoint.path][r.status_code]+=1

    check()


@pytest.mark.parametrize("service, endpoint", FORBIDDING)
def test_forbidden_requests(
    documents: dict[str, BaseSchema], session: requests.Session, world: World, service: str, endpoint: Endpoint
) -> None:
    operation = documents[service][endpoint.path][endpoint.method]

    @_examples(CASES[service != "all"][1])
    @given(case=operation.as_strategy(GenerationMode.NEGATIVE), seat=st.integers(0, len(world.seats) - 1))
    def check(case: Case, seat: int) -> None:
        checks = [*CONFORMANCE, negative_data_rejection]
        case.call_and_validate(session=session, headers=_credentials(endpoint, world, seat), checks=checks)

    check()


def _examples(number: int) -> Any:
    """Make the same cases in every run, none of them slow or shrunk: a failure names its request."""
    chosen = settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    return chosen


def _credentials(endpoint: Endpoint, world: World, seat: int) -> dict[str, str]:
    """Return what differs between endpoints and cases: one of the two tokens, and an address without a past."""
    number = next(_addresses)
    headers = {
        "X-Forwarded-For": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
        "Authorization": f"Bearer {world.seats[seat].access}",
    }
    secrets = world.client.secrets
    match endpoint.auth.value:
        case "clientToken" | "eitherToken":
            headers["X-Client-Token"] = secrets.client_token
        case "adminToken":
            headers["X-Admin-Token"] = secrets.admin_token
    return headers


def _make_real(case: Case, world: World, number: int, names: set[str]) -> None:
    """Put ids, keys and tokens that exist in the place of made-up ones."""
    seat = world.seats[number]
    second = "/licenses-api/" in case.path
    license = world.b_license if second else seat.license
    values = {
        **{name: license[name] for name in ("license_id", "license_key", "email")},
        "license_key_hash": world.b_license["license_key_hash"],
        "hardware_id": seat.hardware_id,
        "device_hash": "c0ffee",
        "refresh_token": seat.refresh,
        "token": seat.offline,
        "key_id": world.key_id,
    }
    places: list[Any] = [case.path_parameters, case.query]
    if not isinstance(case.body, NotSet):
        places.append(case.body)
    for place in places:
        for name in (names | {"key_id"}) & set(place or {}):
            place[name] = values[name]
