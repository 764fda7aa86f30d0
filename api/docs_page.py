"""A page to read an OpenAPI document: plain HTML and one stylesheet, without scripts or anything from elsewhere.

Serve it with `Content-Security-Policy: default-src 'none'; style-src 'self'` at `/docs`, the stylesheet at `/docs.css`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files

from api.docs_schemas import Field, Json, example, fields_of, resolved, type_of

STYLESHEET = files("api").joinpath("templates/docs.css").read_text("utf-8")

_CREDENTIALS = {
    "X-API-Key": "$API_KEY",
    "X-Admin-API-Key": "$ADMIN_API_KEY",
    "X-Admin-Secret": "$ADMIN_SECRET",
    "X-Client-Token": "$CLIENT_TOKEN",
    "X-Admin-Token": "$ADMIN_TOKEN",
}


class Html(str):
    """Text that is HTML already; all other text is escaped when it is put into an element."""

    __slots__ = ()


def element(name: str, *content: str, **attributes: str) -> Html:
    """Make an HTML element; a trailing underscore in an attribute's name is dropped."""
    written = "".join(f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items())
    inside = "".join(part if isinstance(part, Html) else escape(part) for part in content)
    return Html(f"<{name}{written}>{inside}</{name}>")


def render(document: Json) -> str:
    """Write an OpenAPI 3.1 document as an HTML page; everything from the document is escaped."""
    info = document["info"]
    operations = list(_operations(document))
    head = element(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        element("title", info["title"]),
        Html('<link rel="stylesheet" href="docs.css">'),
    )
    intro = element(
        "header",
        element("h1", info["title"], " ", element("small", info["version"])),
        element("p", info["description"]),
        element(
            "p",
            "The examples are for a shell where ",
            element("code", "SERVER"),
            " is this server's address. ",
            element("a", "openapi.json", href="openapi.json"),
            " is the same for programs.",
        ),
    )
    articles = [_article(document, method, path, operation) for method, path, operation in operations]
    body = element("body", _contents(operations), element("main", intro, *articles))
    return "<!doctype html>\n" + element("html", head, body, lang="en")


Operation = tuple[str, str, Json]
"""Method, path and description of an operation."""


def _operations(document: Json) -> Iterator[Operation]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield method.upper(), path, operation


def _contents(operations: Iterable[Operation]) -> Html:
    by_tag: dict[str, list[Html]] = {}
    for method, path, operation in operations:
        link = element("a", _badge(method), " ", operation["summary"], href=f"#{operation['operationId']}", title=path)
        by_tag.setdefault(next(iter(operation["tags"]), "other"), []).append(element("li", link))
    return element(
        "nav", *(element("section", element("h2", tag), element("ul", *links)) for tag, links in by_tag.items())
    )


def _badge(method: str) -> Html:
    return element("b", method, class_=f"method {method.lower()}")


def _article(document: Json, method: str, path: str, operation: Json) -> Html:
    parts = [
        element("h2", _badge(method), " ", element("code", path)),
        element("p", operation["summary"], class_="summary"),
        element("p", "Credential: ", *_credential(document, operation), class_="credential"),
    ]
    parameters = [_parameter_field(resolved(each, document)) for each in operation["parameters"]]
    parts += _section("Parameters", _table(parameters))
    if body := operation.get("requestBody"):
        schema = body["content"]["application/json"]["schema"]
        parts += _section("Body", element("p", body["description"]), _table(fields_of(schema, document)))
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            parts += _section(f"Answer {status}", _answer(response, document))
    parts += _section("Refusals", _refusals(operation))
    parts += _section("Example", element("pre", element("code", curl(document, method, path, operation))))
    return element("article", *parts, id=operation["operationId"])


def _section(title: str, *content: Html) -> list[Html]:
    return [element("h3", title), *content]


def _credential(document: Json, operation: Json) -> list[str]:
    names = [_header(document, name) for wanted in operation["security"] for name in wanted]
    if not names:
        return ["none"]
    return [part for name in names for part in (" or ", element("code", name))][1:]


def _header(document: Json, scheme_name: str) -> str:
    scheme = document["components"]["securitySchemes"][scheme_name]
    return scheme["name"] if scheme["type"] == "apiKey" else "Authorization: Bearer"


def _parameter_field(parameter: Json) -> Field:
    described = {"description": parameter.get("description", ""), **parameter["schema"]}
    return Field(f"{parameter['name']} ({parameter['in']})", described, required=parameter.get("required", False))


def _table(fields: Iterable[Field]) -> Html:
    rows = [
        element(
            "tr",
            element("td", element("code", field.name), *([] if field.required else [element("small", " optional")])),
            element("td", field.type),
            element("td", *_limits(field)),
        )
        for field in fields
    ]
    return element("table", *rows)


def _limits(field: Field) -> list[str]:
    parts: list[str] = [" · ".join(filter(None, [field.description, *field.limits]))]
    if field.pattern:
        parts.append(element("code", field.pattern, class_="pattern"))
    return parts


def _answer(response: Json, document: Json) -> Html:
    for media_type, content in response.get("content", {}).items():
        fields = list(fields_of(content["schema"], document))
        return _table(fields) if fields else element("p", f"{media_type}: {type_of(content['schema'])}")
    return element("p", "no content")


def _refusals(operation: Json) -> Html:
    rows = []
    for status, response in operation["responses"].items():
        if not status.startswith("2"):
            codes = element("code", " ".join(_codes(response)))
            rows.append(
                element("tr", element("td", status), element("td", response["description"]), element("td", codes))
            )
    return element("table", *rows, class_="refusals")


def _codes(response: Json) -> list[str]:
    """List the error codes of the services' dialect; the other has none."""
    parts = response["content"]["application/json"]["schema"].get("allOf", [])
    return [code for part in parts for code in part.get("properties", {}).get("error_code", {}).get("enum", [])]


def curl(document: Json, method: str, path: str, operation: Json) -> str:
    """Write an operation as a shell command."""
    words = ["curl -sS"] if method == "GET" else [f"curl -sS -X {method}"]
    for name in next(iter(operation["security"]), {}):
        header = _header(document, name)
        words.append(f'-H "{header}: {_CREDENTIALS[header]}"' if header in _CREDENTIALS else f'-H "{header} $TOKEN"')
    if body := operation.get("requestBody"):
        value = example(body["content"]["application/json"]["schema"], document)
        words += ['-H "Content-Type: application/json"', f"-d {shlex.quote(json.dumps(value, ensure_ascii=False))}"]
    given = {each["name"]: example(each["schema"], document) for each in operation["parameters"] if "schema" in each}
    filled = re.sub(r"\{(\w+)\}", lambda match: str(given[match[1]]), path)
    return " \\\n  ".join([*words, f'"$SERVER{filled}"'])
