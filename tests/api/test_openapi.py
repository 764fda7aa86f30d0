"""The OpenAPI documents say what the endpoints do, and tools can use them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from jsonschema_rs import validator_for
from msgspec import Meta

from api.body import decode_object, to_struct
from api.endpoint import Auth, Dialect, Endpoint
from api.errors import status_of
from api.openapi import document
from api.schemas.common import IDENTIFIER_PATTERN, Feature, Identifier, JsonObject16K, Name, Timestamp
from domain.errors import DeviceLimitExceeded, LicenseNotFound

Json = dict[str, Any]


class CreateLicense(msgspec.Struct):
    customer_id: Identifier
    max_devices: Annotated[int, Meta(ge=1, le=100_000)]
    note: int = 0
    name: Name | None = None
    features: Annotated[list[Feature], Meta(max_length=100)] = []
    metadata: JsonObject16K = {}
    expires_at: Timestamp | None = None
    key_format: Literal["plain", "grouped"] = "plain"


class License(msgspec.Struct):
    license_id: str
    max_devices: int


class ListLicenses(msgspec.Struct):
    page: Annotated[int, Meta(ge=1)] = 1
    is_active: bool | None = None
    expires_before: Timestamp | None = None


async def handler(call: Any) -> Any:
    raise NotImplementedError


CREATE = Endpoint(
    method="POST",
    path="/api/v1/admin/licenses",
    handler=handler,
    summary="Create a licence",
    auth=Auth.ADMIN_KEY,
    body=CreateLicense,
    answers={201: License},
    takes_idempotency_key=True,
    tag="licences",
)
LIST = Endpoint(
    method="GET",
    path="/api/v1/admin/licenses",
    handler=handler,
    summary="List licences",
    auth=Auth.ADMIN_KEY,
    query=ListLicenses,
    answers={200: list[License]},
    tag="licences",
)
GET = Endpoint(
    method="GET",
    path="/api/v1/admin/licenses/{license_id}",
    handler=handler,
    summary="Show a licence",
    auth=Auth.BEARER,
    answers={200: License},
    refusals=(LicenseNotFound,),
    tag="licences",
)
ACTIVATE = Endpoint(
    method="POST",
    path="/licenses-api/v1/activate",
    handler=handler,
    summary="Activate a device",
    auth=Auth.EITHER_TOKEN,
    dialect=Dialect.LICENSES_API,
    body=CreateLicense,
    answers={200: License},
    refusals=(DeviceLimitExceeded,),
    takes_idempotency_key=True,
)
LIVE = Endpoint(method="GET", path="/health/live", handler=handler, summary="Alive", auth=Auth.NONE, answers={200: str})


def made(*endpoints: Endpoint) -> Json:
    return document("Sample", "A sample service.", endpoints, status_of, version="1.2.3")


SAMPLE = made(CREATE, LIST, GET, ACTIVATE, LIVE)
OPENED = schemathesis.openapi.from_dict(SAMPLE)


def test_it_is_valid_and_a_tool_finds_every_operation() -> None:
    assert OPENED.validate() is None
    for endpoint in (CREATE, LIST, GET, ACTIVATE, LIVE):
        assert OPENED[endpoint.path][endpoint.method].label == f"{endpoint.method} {endpoint.path}"


def test_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for path in SAMPLE["paths"].values() for operation in path.values()]

    assert len(set(ids)) == len(ids)
    assert "get_api_v1_admin_licenses_by_license_id" in ids


def test_the_credential_follows_from_auth() -> None:
    assert SAMPLE["paths"][CREATE.path]["post"]["security"] == [{"adminKey": []}]
    assert SAMPLE["paths"][ACTIVATE.path]["post"]["security"] == [{"clientToken": []}, {"adminToken": []}]
    assert SAMPLE["paths"][LIVE.path]["get"]["security"] == []
    assert set(SAMPLE["components"]["securitySchemes"]) == {"adminKey", "bearer", "clientToken", "adminToken"}


@pytest.mark.parametrize(
    "endpoint, statuses",
    [
        (CREATE, {201, 400, 401, 409, 410, 413, 422, 500, 503}),
        (LIST, {200, 400, 401, 500, 503}),
        (GET, {200, 400, 401, 404, 429, 500, 503}),
        (ACTIVATE, {200, 401, 409, 410, 413, 422, 429, 500, 503}),
        (LIVE, {200, 400, 429, 500}),
    ],
)
def test_every_status_is_named(endpoint: Endpoint, statuses: set[int]) -> None:
    responses = SAMPLE["paths"][endpoint.path][endpoint.method.lower()]["responses"]

    assert {int(status) for status in responses} == statuses
    assert all("X-Request-ID" in response["headers"] for response in responses.values())


def answer_schema(endpoint: Endpoint, status: int) -> Any:
    content = SAMPLE["paths"][endpoint.path][endpoint.method.lower()]["responses"][str(status)]["content"]
    return validator_for({**content["application/json"]["schema"], "components": SAMPLE["components"]})


def test_the_services_error_shape_names_the_codes() -> None:
    not_found = answer_schema(GET, 404)

    assert not_found.is_valid({"error": "no", "error_code": "LICENSE_NOT_FOUND", "details": {}})
    assert not not_found.is_valid({"error": "no", "error_code": "UNAUTHORIZED", "details": {}})
    assert not not_found.is_valid({"detail": "no"})


def test_the_second_dialects_error_shapes() -> None:
    assert answer_schema(ACTIVATE, 401).is_valid({"detail": "invalid client/admin token"})
    assert answer_schema(ACTIVATE, 409).is_valid({"detail": {"message": "", "activations": 2, "max_activations": 2}})
    assert answer_schema(ACTIVATE, 422).is_valid({"detail": [{"loc": ["email"], "msg": "is required"}]})
    assert not answer_schema(ACTIVATE, 401).is_valid({"error": "no"})


def test_query_fields_are_parameters_that_are_absent_rather_than_null() -> None:
    parameters = {each["name"]: each for each in SAMPLE["paths"][LIST.path]["get"]["parameters"] if "name" in each}

    assert parameters["page"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 2**63 - 1, "default": 1}
    assert parameters["is_active"]["schema"] == {"type": "boolean"}
    assert parameters["expires_before"]["schema"] == {"type": "string", "format": "date-time"}
    assert "ListLicenses" not in SAMPLE["components"]["schemas"]


def test_path_parameters_and_the_idempotency_key_are_named() -> None:
    (license_id, *_) = SAMPLE["paths"][GET.path]["get"]["parameters"]

    assert license_id == {
        "name": "license_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "format": "uuid"},
    }
    assert {"$ref": "#/components/parameters/IdempotencyKey"} in SAMPLE["paths"][CREATE.path]["post"]["parameters"]
    assert {"$ref": "#/components/parameters/IdempotencyKey"} not in SAMPLE["paths"][LIST.path]["get"]["parameters"]


@pytest.mark.parametrize("text", ["a", " a ", "a b", "x" * 256, "\u00a0" + "x" * 256 + "\n", "é\u200d\U0001f600"])
def test_the_identifiers_pattern_allows(text: str) -> None:
    assert validator_for({"type": "string", "pattern": IDENTIFIER_PATTERN}).is_valid(text)


@pytest.mark.parametrize("text", ["", " ", "\u3000", "a\nb", "a\x85b", "x" * 257, "\x00"])
def test_the_identifiers_pattern_refuses(text: str) -> None:
    assert not validator_for({"type": "string", "pattern": IDENTIFIER_PATTERN}).is_valid(text)


@given(case=OPENED[CREATE.path]["POST"].as_strategy())
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_the_document_allows_is_accepted(case: Any) -> None:
    """Except for what JSON Schema can't say: NUL in a name, and any number in what is free-form or ignored."""
    known = {name: case.body[name] for name in CreateLicense.__struct_encode_fields__ if name in case.body}
    raw = msgspec.json.encode(known | {"metadata": {}})
    assume(b"\\u0000" not in raw)

    assert isinstance(to_struct(decode_object(raw, "application/json"), CreateLicense), CreateLicense)
