"""What every service answers is what its OpenAPI document says, for what the document allows and for what it forbids.

Cases are made by schemathesis from the document that the running service shows, the same ones in every run.
"""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.endpoint import Auth, Endpoint
from api.schemas.auth import RefreshRequest
from api.schemas.license import ValidateOfflineRequest
from api.server import SERVICES, all_in_one
from tests.support.client import Secrets
from tests.support.ports import Ports
from tests.support.world import B_HASH, Seat, World


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
FORBIDDING = [each for each in OPERATIONS if isinstance(each.values[1], Endpoint) and _takes_something(each.values[1])]
REJECTED = SchemathesisConfig.from_dict(
    # A credential may be what is missing (401), a path that can't name anything names nothing (404), and some bodies
    # are wrong by being too large (413).
    {"checks": {"negative_data_rejection": {"expected-statuses": [400, 401, 404, 413, 422]}}}
)
ENDING = ("deactivate", "transfer", "PATCH", "DELETE")
"""What is in the names of operations that end something: they have half of the seats to themselves."""
CREDENTIALS = ("X-API-Key", "Authorization", "X-Admin-API-Key", "X-Admin-Secret", "X-Client-Token", "X-Admin-Token")

_numbers = count()


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
    seen: Counter[int] = Counter()

    @_examples(CASES[service != "all"][0])
    @given(case=operation.as_strategy(GenerationMode.POSITIVE))
    def check(case: Case[Any]) -> None:
        number = next(_numbers)
        seat = _seat(world, operation.label, number)
        for name in CREDENTIALS:  # The made-up ones give way to the real ones.
            case.headers.pop(name, None)
        if number % 2:
            _make_real(case, world, seat)
        answer = case.call_and_validate(
            session=session, headers=_credentials(endpoint, world, seat, number), checks=CONFORMANCE
        )
        seen[answer.status_code] += 1

    check()
    assert 401 not in seen or endpoint.body in {RefreshRequest, ValidateOfflineRequest}
    # Some operations have seats to take or to move, or events to undo, only while earlier ones have left them some.
    gone = any(word in endpoint.path for word in ("device", "transfer", "corrections"))
    assert service == "all" or gone or min(seen) < 300, seen


@pytest.mark.parametrize("service, endpoint", FORBIDDING)
def test_forbidden_requests(
    documents: dict[str, BaseSchema], session: requests.Session, world: World, service: str, endpoint: Endpoint
) -> None:
    operation = documents[service][endpoint.path][endpoint.method]

    @_examples(CASES[service != "all"][1])
    @given(case=operation.as_strategy(GenerationMode.NEGATIVE))
    def check(case: Case[Any]) -> None:
        number = next(_numbers)
        headers = _credentials(endpoint, world, _seat(world, operation.label, number), number)
        case.call_and_validate(session=session, headers=headers, checks=[*CONFORMANCE, negative_data_rejection])

    check()


def _examples(number: int) -> settings:
    """Make the same cases in every run, none of them slow or shrunk: a failure names its request."""
    return settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def _seat(world: World, label: str, number: int) -> Seat:
    """Take the seats in turn, so that limits by licence are met late."""
    half = len(world.seats) // 2
    return world.seats[number % half + (half if any(word in label for word in ENDING) else 0)]


def _credentials(endpoint: Endpoint, world: World, seat: Seat, number: int) -> dict[str, str]:
    """Return what differs between endpoints and cases: one of the two tokens, and an address without a past."""
    headers = {
        "X-Forwarded-For": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
        "Authorization": f"Bearer {seat.access}",
    }
    secrets = world.client.secrets
    match endpoint.auth:
        case Auth.CLIENT_TOKEN | Auth.EITHER_TOKEN:
            headers["X-Client-Token"] = secrets.client_token
        case Auth.ADMIN_TOKEN:
            headers["X-Admin-Token"] = secrets.admin_token
    return headers


def _make_real(case: Case[Any], world: World, seat: Seat) -> None:
    """Put ids, keys and tokens that exist in the place of made-up ones."""
    license = world.b_license if "/licenses-api/" in case.path else seat.license
    values = {
        **{name: license[name] for name in ("license_id", "license_key", "email")},
        "license_key_hash": world.b_license["license_key_hash"],
        "hardware_id": seat.hardware_id,
        "from_hardware_id": seat.hardware_id,
        "device_hash": B_HASH,
        "refresh_token": seat.refresh,
        "token": seat.offline,
        "key_id": world.key_id,
        "anomaly_id": world.anomaly_id,
        "event_id": world.event_id,
        "from_size": 1,
        "to_size": 1,
    }
    if case.path.endswith("/license/activate"):
        del values["hardware_id"]  # That device is active already.
    for place in (case.path_parameters, case.query, case.body):
        if isinstance(place, dict):
            place.update({name: value for name, value in values.items() if name in place})
            place.pop("size", None)  # A made-up one is beyond what was signed.
