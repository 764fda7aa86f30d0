"""Pages for people: nothing on them can run, be framed, or come from elsewhere, and the browser is told so."""

from __future__ import annotations

from html.parser import HTMLParser

import aiohttp
import pytest

from api.server import SERVICES
from tests.security.raw_http import ask
from tests.support.ports import Ports
from tests.support.world import Request, World

NAMES = [service.name for service in SERVICES] + ["all"]


def directives(policy: str) -> dict[str, list[str]]:
    """Read a Content-Security-Policy; of a directive that comes twice the first counts, so none may."""
    parts = [part.split() for part in policy.split(";") if part.strip()]
    found = {name.lower(): values for name, *values in parts}
    assert len(found) == len(parts), policy
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("path,kind", [("/docs", "text/html"), ("/docs.css", "text/css")])
async def test_the_browser_is_told_that_nothing_may_run(ports: Ports, name: str, path: str, kind: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(ports.base(name) + path) as answer:
        assert (answer.status, answer.content_type, answer.charset) == (200, kind, "utf-8")
        (policy,) = answer.headers.getall("Content-Security-Policy")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    rules = directives(policy)

    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == rules["frame-ancestors"] == ["'none'"]
    loaded = {one: values for one, values in rules.items() if one.endswith("-src") and one != "default-src"}
    assert loaded == {"style-src": ["'self'"]}


class _Page(HTMLParser):
    """Collects what could run, load or lead somewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        self.links |= {value or "" for name, value in attrs if name in {"href", "src", "action"}}


@pytest.mark.parametrize("name", NAMES)
async def test_nothing_on_a_page_would_run_without_the_policy_either(ports: Ports, name: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(ports.base(name) + "/docs") as answer:
        page = _Page()
        page.feed(await answer.text())

    assert page.tags.isdisjoint({"script", "iframe", "object", "embed", "form", "base", "svg", "math", "style", "img"})
    assert not any(attribute.startswith("on") or attribute in {"style", "srcdoc"} for attribute in page.names)
    elsewhere = {link for link in page.links if not link.startswith("#")}
    assert elsewhere == {"docs.css", "openapi.json"}


async def test_what_programs_send_never_comes_back_as_a_page(ports: Ports, world: World) -> None:
    """Stored or refused: whatever holds a stranger's text is JSON, which no browser renders."""
    hostile, port = "<script>alert(1)</script>", ports.ports["all"]
    admin = {"X-Admin-API-Key": world.client.secrets.admin_api_key}
    create = {"customer_id": hostile, "product": hostile, "metadata": {hostile: hostile}}
    answers = [
        await ask(port, Request("POST", "/api/v1/admin/licenses", admin, create).raw()),
        await ask(port, Request("POST", "/api/v1/admin/licenses", admin, {**create, "max_devices": hostile}).raw()),
        await ask(
            port, Request("GET", "/api/v1/admin/licenses?product=%3Cscript%3Ealert(1)%3C/script%3E", admin).raw()
        ),
        await ask(port, Request("GET", "/docs/%3Cscript%3Ealert(1)%3C/script%3E").raw()),
        await ask(port, Request("GET", "/licenses-api/v1/%3Cscript%3E").raw()),
        await ask(port, Request("<SCRIPT>", "/docs").raw()),
    ]

    assert [answer.status for answer in answers] == [201, 400, 200, 404, 404, 400]
    assert {answer.headers["content-type"] for answer in answers} == {"application/json; charset=utf-8"}
