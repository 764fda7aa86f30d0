"""The page shows every operation with all that a caller needs, and nothing on it can run."""

from __future__ import annotations

import copy
import shlex
from html.parser import HTMLParser
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from api.docs_page import STYLESHEET, render
from api.endpoint import Auth, Endpoint
from api.openapi import document
from api.schemas.common import Identifier, Timestamp
from domain.errors import LicenseNotFound, Refusal

HOSTILE = "<script>alert('\"&')</script>"


class Row(msgspec.Struct):
    customer_id: Identifier
    max_devices: Annotated[int, Meta(ge=1, le=100_000)] = 5
    children: list[Row] = []


class BulkCreate(msgspec.Struct):
    licenses: Annotated[list[Row], Meta(max_length=1000)]
    key_format: Literal["plain", "grouped"] = "plain"
    expires_at: Timestamp | None = None


class Created(msgspec.Struct):
    licenses: list[Row]


async def handler(call: Any) -> Any:
    raise NotImplementedError


def status_of(_endpoint: Endpoint, refusal: type[Refusal]) -> int:
    return 404 if refusal is LicenseNotFound else 400


@pytest.fixture
def sample() -> dict[str, Any]:
    endpoints = [
        Endpoint(
            method="POST",
            path="/licenses/{license_id}/rows",
            handler=handler,
            summary="Create many",
            auth=Auth.ADMIN_KEY,
            body=BulkCreate,
            answers={201: Created},
            refusals=(LicenseNotFound,),
            takes_idempotency_key=True,
            tag="licences",
        ),
        Endpoint(method="GET", path="/live", handler=handler, summary="Alive", auth=Auth.NONE, answers={200: str}),
        Endpoint(method="GET", path="/mine", handler=handler, summary="Mine", auth=Auth.BEARER, answers={204: None}),
    ]
    return document("Sample", "A sample service.", endpoints, status_of, version="1.2.3")


class Reader(HTMLParser):
    """Collects tags, attributes and text; fails on elements that are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in {"meta", "link"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_every_operation_is_on_the_page(sample: dict[str, Any]) -> None:
    page = Reader(render(sample))

    for words in (
        "Create many",
        "/licenses/{license_id}/rows",
        "X-Admin-API-Key",
        "Authorization: Bearer",
        "license_id (path)",
        "Idempotency-Key (header)",
        "licenses[].max_devices",
        "1 to 100000 · default 5",
        "at most 1000 items",
        "“grouped” or “plain”",
        "date-time or null",
        "LICENSE_NOT_FOUND",
        "Answer 201",
        "no content",
    ):
        assert words in "\n".join(page.texts)


def test_links_lead_somewhere(sample: dict[str, Any]) -> None:
    page = Reader(render(sample))

    targets = {f"#{value}" for name, value in page.attributes if name == "id"}
    links = {value for name, value in page.attributes if name == "href"}
    assert links == targets | {"docs.css", "openapi.json"}


def test_the_example_is_a_command_whose_body_fits(sample: dict[str, Any]) -> None:
    (first, *_) = (text for text in Reader(render(sample)).texts if text.startswith("curl"))
    words = shlex.split(first.replace("\\\n", ""))

    assert words[:4] == ["curl", "-sS", "-X", "POST"]
    assert "X-Admin-API-Key: $ADMIN_API_KEY" in words
    assert words[-1].startswith("$SERVER/licenses/6f1c")
    body = msgspec.json.decode(words[words.index("-d") + 1], type=BulkCreate)
    assert body.licenses[0].customer_id == "text"


def hostile(part: Any) -> Any:
    """Put markup into every text of a document that is not part of its structure."""
    if isinstance(part, dict):
        return {
            name: HOSTILE if name in {"title", "description", "summary", "pattern", "operationId"} else hostile(value)
            for name, value in part.items()
        }
    return [hostile(item) for item in part] if isinstance(part, list) else part


def test_everything_is_escaped_and_nothing_can_run(sample: dict[str, Any]) -> None:
    changed = hostile(copy.deepcopy(sample))
    changed["paths"][f"/{HOSTILE}"] = changed["paths"].pop("/live")
    page = Reader(render(changed))

    assert HOSTILE in page.texts
    assert {"script", "style", "img", "iframe", "form"}.isdisjoint(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in {"style", "src"}]
    assert [value for name, value in page.attributes if name == "id"] == [HOSTILE] * 3


def test_the_stylesheet_loads_nothing() -> None:
    assert "body {" in STYLESHEET
    assert "url(" not in STYLESHEET
    assert "@import" not in STYLESHEET
