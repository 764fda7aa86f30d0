"""Answers in one piece, byte for byte."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import HttpVersion, HttpVersion10, HttpVersion11

from api.rate_limits import Quota
from api.reply import Reply


def sent(reply: Reply, version: HttpVersion = HttpVersion11, *, keep_alive: bool = True) -> tuple[str, dict[str, str]]:
    request: Any = SimpleNamespace(version=version, keep_alive=keep_alive)
    head, separator, body = reply.encoded(request).partition(b"\r\n\r\n")
    assert separator
    assert body == reply.body
    status, *lines = head.decode().split("\r\n")
    return status, dict(line.split(": ", 1) for line in lines)


def test_says_its_status_length_and_date() -> None:
    status, headers = sent(Reply(404, b'{"a": 1}', {"Allow": "GET"}))
    assert status == "HTTP/1.1 404 Not Found"
    assert (headers["Content-Type"], headers["Content-Length"]) == ("application/json; charset=utf-8", "8")
    assert headers["Allow"] == "GET"
    assert headers["Date"].endswith(" GMT")
    assert "Connection" not in headers


@pytest.mark.parametrize(
    "version, keep_alive, said",
    [(HttpVersion11, False, "close"), (HttpVersion10, True, "keep-alive"), (HttpVersion10, False, "close")],
)
def test_says_what_becomes_of_the_connection(version: HttpVersion, *, keep_alive: bool, said: str) -> None:
    reply = Reply(200, b"{}", {})
    assert sent(reply, version, keep_alive=keep_alive)[1]["Connection"] == said
    assert reply.keep_alive is keep_alive


def test_closes_the_connection_where_it_must() -> None:
    reply = Reply(400, b"{}", {})
    reply.force_close()
    assert sent(reply)[1]["Connection"] == "close"
    assert reply.keep_alive is False


def test_says_the_same_to_who_asks_for_the_head_alone() -> None:
    reply = Reply(200, b"{}", {"Allow": "GET"}, Quota(60, 17))
    reply.request_id = "abc"
    _, headers = sent(reply)
    assert (headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"], headers["X-Request-ID"]) == (
        "60",
        "17",
        "abc",
    )
    # The other two are aiohttp's to say.
    assert dict(reply.as_response().headers) == {
        name: value for name, value in headers.items() if name not in {"Content-Length", "Date"}
    }


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\rb"])
def test_no_header_breaks_out(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        sent(Reply(200, b"{}", {"Allow": value}))
