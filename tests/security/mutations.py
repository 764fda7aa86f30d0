"""Valid requests, spoilt: bytes, headers, lengths, chunks, encodings and JSON values."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from tests.support.world import Request

_TOKENS = [
    b"\r\n", b"\n", b"\r", b"\0", b"\xff", b"\xc3\x28", b"\xef\xbb\xbf", b"%00", b"%2F", b"%252F", b"..", b";x", b"?",
    b"&", b"=", b"{", b"[", b'"', b"\\", b"\\u0000", b"\\ud800", b"NaN", b"1e999", b"-", b"0x10", b": ", b",", b" ",
    b"\t", b"\x0b", b"chunked", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n",
    b"Expect: 100-continue\r\n",
    b"Expect: nothing\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"HTTP/1.0",
    b"HTTP/9.9", b"Content-Encoding: gzip\r\n", b"Content-Encoding: br\r\n", b"X-Request-ID: a\tb\r\n", b" folded\r\n",
]  # fmt: skip
_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, -(2**63) - 1, 10**30, 0.5, 1e308, "", " ", "\0", "\ud800",
    "x" * 257,
    "x" * 20_000, "\U0001f600", "é", "a\nb", "' OR 1=1 --", "../../etc/passwd", "0000-01-01T00:00:00Z",
    "9999-12-31T23:59:59-23:59", "2030-01-01", "LIC-000000000000", "00000000-0000-0000-0000-000000000000", [], {}, [[]],
    [None], [1, "a"], {"a": {"b": {}}}, {"_type_": "uuid_hex", "_data_": "x"}, {"\0": 1}, ["x"] * 300, "sk_" + "a" * 40,
]  # fmt: skip
_METHODS = ["GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "X" * 40]
_HEADERS = [
    "X-API-Key", "Authorization", "X-Admin-API-Key", "X-Admin-Secret", "X-Client-Token", "X-Admin-Token", "Host",
    "Idempotency-Key", "Content-Type", "Content-Length", "Transfer-Encoding", "Content-Encoding", "X-Request-ID",
    "X-Forwarded-For", "Origin", "Expect", "Cookie", "X-HTTP-Method-Override", "Range", "If-None-Match",
]  # fmt: skip
_HEADER_VALUES = [
    b"", b" ", b"a", b"a, b", b"\xff\xfe", b"\xc3\xa9", b"x" * 300, b"x" * 9000, b"chunked", b"gzip", b"identity",
    b"-1",
    b"0", b"99999999999999999999", b"text/plain", b"application/json; charset=utf-16", b"Bearer", b"Bearer a.b.c",
    b"sk_x", b"adm_\xff", b"::1, 127.0.0.1, 1.2.3.4", b"100-continue", b"bytes=0-", b"null", b"()", b"{}",
]  # fmt: skip

Mutation = Callable[[random.Random, Request], bytes]


def mutated(draw: random.Random, requests: Sequence[Request]) -> bytes:
    """Return a spoilt request; each mutation is as likely as any other, and one in ten requests is spoilt twice."""
    raw = draw.choice(_MUTATIONS)(draw, draw.choice(requests))
    return _bytes_changed(draw, raw) if draw.random() < 0.1 else raw


def _changed_bytes(draw: random.Random, request: Request) -> bytes:
    return _bytes_changed(draw, request.raw())


def _bytes_changed(draw: random.Random, raw: bytes) -> bytes:
    data = bytearray(raw)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(4):
            case 0:
                data[at:at] = draw.choice(_TOKENS)
            case 1:
                del data[at : at + draw.randint(1, 8)]
            case 2:
                data[at : at + 1] = bytes([draw.randrange(256)])
            case _:
                data[at:at] = data[at : at + draw.randint(1, 64)]
    return bytes(data)


def _changed_body_bytes(draw: random.Random, request: Request) -> bytes:
    body = _bytes_changed(draw, json.dumps(request.body).encode())
    return _assembled(request, body)


def _changed_value(draw: random.Random, request: Request) -> bytes:
    body: Any = json.loads(json.dumps(request.body)) or {}
    target = body
    while True:
        name = draw.choice(list(target)) if target and draw.random() < 0.9 else "unknown"
        inner = target.get(name)
        if isinstance(inner, list) and inner and isinstance(inner[0], dict):
            inner = inner[0]
        if not isinstance(inner, dict) or draw.random() < 0.5:
            break
        target = inner
    if draw.random() < 0.1:
        target.pop(name, None)
    else:
        target[name] = draw.choice(_VALUES)
    return _assembled(request, json.dumps(body, ensure_ascii=draw.random() < 0.9).encode("utf-8", "surrogatepass"))


def _deep(draw: random.Random, request: Request) -> bytes:
    levels = draw.choice([8, 9, 32, 33, 1000, 10_000])
    opened, closed = draw.choice([(b'{"a":', b"}"), (b"[", b"]")])
    inner = opened * levels + b"1" + closed * levels
    name = json.dumps(draw.choice(list(request.body or {"a": 1}))).encode()
    return _assembled(request, draw.choice([inner, b"{" + name + b":" + inner + b"}"]))


def _changed_header(draw: random.Random, request: Request) -> bytes:
    headers = {name: value.encode() for name, value in request.headers.items()}
    name = draw.choice([*_HEADERS, *headers])
    headers[name] = draw.choice(_HEADER_VALUES)
    return _assembled(request, _body(request), headers)


def _moved_headers(draw: random.Random, request: Request) -> bytes:
    head, _, body = request.raw().partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    match draw.randrange(4):
        case 0:
            lines.insert(draw.randrange(len(lines) + 1), draw.choice(lines))
        case 1:
            lines.pop(draw.randrange(len(lines)))
        case 2:
            draw.shuffle(lines)
        case _:
            at = draw.randrange(len(lines))
            lines[at] = draw.choice([b" ", b"\t", b""]) + lines[at]
    return b"\r\n".join([first, *lines, b"", body])


def _changed_length(draw: random.Random, request: Request) -> bytes:
    body = _body(request)
    stated = [
        len(body) - draw.randint(1, 5),
        len(body) + draw.randint(1, 5),
        -1,
        2**64,
        "0x5",
        f"{len(body)}, 5",
        "",
        "+5",
    ]
    return _assembled(request, body, {"Content-Length": str(draw.choice(stated)).encode()})


def _chunked(draw: random.Random, request: Request) -> bytes:
    body = _body(request)
    chunks = []
    while body:
        size = draw.randint(1, 40)
        part, body = body[:size], body[size:]
        chunks.append(b"%x%b\r\n%b\r\n" % (len(part), draw.choice([b"", b"", b";a=b"]), part))
    sent = b"".join([*chunks, b"0\r\n", draw.choice([b"", b"", b"X-API-Key: a\r\n"]), b"\r\n"])
    if draw.random() < 0.6:
        sent = _bytes_changed(draw, sent)
    coding = draw.choice([b"chunked"] * 6 + [b"Chunked", b"gzip, chunked", b"identity", b"chunked, chunked"])
    return _assembled(request, sent, {"Transfer-Encoding": coding}, length=draw.random() < 0.1)


def _compressed(draw: random.Random, request: Request) -> bytes:
    body = gzip.compress(_body(request))
    if draw.random() < 0.6:
        body = _bytes_changed(draw, body)
    coding = draw.choice([b"gzip", b"gzip", b"deflate", b"br", b"zstd", b"gzip, gzip", b"x"])
    return _assembled(request, body, {"Content-Encoding": coding})


def _changed_target(draw: random.Random, request: Request) -> bytes:
    path = bytearray(request.path.encode())
    at = draw.randrange(1, len(path) + 1)
    path[at:at] = draw.choice(
        [*_TOKENS[8:20], b"/", b"//", b"?page=1000000000", b"&cursor=x", b"?a", b"%zz", b"%ff", b"'"]
    )
    method = draw.choice(_METHODS) if draw.random() < 0.2 else request.method
    _, _, rest = request.raw().partition(b"\r\n")
    return b"%b %b HTTP/1.1\r\n%b" % (method.encode(), bytes(path).replace(b" ", b"%20"), rest)


def _spliced(draw: random.Random, request: Request) -> bytes:
    raw, other = request.raw(), request.raw()[::-1]
    return raw[: draw.randrange(len(raw))] + other[draw.randrange(len(other)) :]


def _body(request: Request) -> bytes:
    return b"" if request.body is None else json.dumps(request.body).encode()


def _assembled(
    request: Request, body: bytes, headers: dict[str, bytes] | None = None, *, length: bool | None = None
) -> bytes:
    given = {"Host": b"127.0.0.1", **{name: value.encode() for name, value in request.headers.items()}}
    given["Content-Type"] = b"application/json"
    if length is not False:
        given["Content-Length"] = str(len(body)).encode()
    given |= headers or {}
    lines = b"".join(b"%b: %b\r\n" % (name.encode(), value) for name, value in given.items())
    return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (request.method.encode(), request.path.encode(), lines, body)


_MUTATIONS: list[Mutation] = [
    _changed_bytes,
    _changed_body_bytes,
    _changed_value,
    _changed_value,
    _changed_value,
    _deep,
    _changed_header,
    _changed_header,
    _moved_headers,
    _changed_length,
    _chunked,
    _compressed,
    _changed_target,
    _spliced,
]
