"""Requests that two servers could read in two ways are refused, and what is no HTTP gets an answer in our shape."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable

import pytest

from tests.security.raw_http import RawAnswer, RawConnection, ask
from tests.support.ports import Ports
from tests.support.world import World

PATHS = ["/api/v1/license/validate", "/licenses-api/v1/activate"]
BODY = b'{"license_key":"LIC-000000000000","hardware_id":"a","email":"a@b.c","device_hash":"a","device_name":"a"}'
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


@pytest.fixture
def port(ports: Ports) -> int:
    return ports.ports["all"]


def request(world: World, path: str, *lines: bytes, body: bytes = BODY, end: bytes = b"\r\n") -> bytes:
    own = [
        b"POST %b HTTP/1.1" % path.encode(),
        b"Host: a",
        b"X-API-Key: %b" % world.client.api_key.encode(),
        b"X-Client-Token: %b" % world.client.secrets.client_token.encode(),
        b"Content-Type: application/json",
        b"X-Forwarded-For: 10.66.%d.%d" % divmod(abs(hash(lines)) % 65536, 256),
    ]
    return end.join([*own, *lines, b"", b""]) + body


def check_refused(answer: RawAnswer, path: str, statuses: tuple[int, int] = (400, 422)) -> None:
    assert answer.problem() is None
    assert answer.status == statuses[PATHS.index(path)], answer
    body = json.loads(answer.body)
    assert body.keys() == ({"detail"} if path == PATHS[1] else {"error", "error_code", "details"})


LENGTH = b"Content-Length: %d" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked"
AMBIGUOUS: dict[str, tuple[tuple[bytes, ...], bytes]] = {
    "length and chunks": ((b"Content-Length: 3", CHUNKED), CHUNKS),
    "chunks and length": ((CHUNKED, b"Content-Length: 3"), CHUNKS),
    "two lengths": ((LENGTH, b"Content-Length: 3"), BODY),
    "one length twice": ((LENGTH, LENGTH), BODY),
    "a list of lengths": ((b"Content-Length: %d, %d" % (len(BODY), len(BODY)),), BODY),
    "a signed length": ((b"Content-Length: +%d" % len(BODY),), BODY),
    "a negative length": ((b"Content-Length: -1",), BODY),
    "a length in hex": ((b"Content-Length: 0x10",), BODY),
    "an endless length": ((b"Content-Length: 99999999999999999999999",), BODY),
    "a blank before the colon": ((b"Content-Length : %d" % len(BODY),), BODY),
    "chunked twice": ((CHUNKED, CHUNKED), CHUNKS),
    "chunked, chunked": ((b"Transfer-Encoding: chunked, chunked",), CHUNKS),
    "chunked, identity": ((b"Transfer-Encoding: chunked, identity",), CHUNKS),
    "gzip, chunked": ((b"Transfer-Encoding: gzip, chunked",), CHUNKS),
    "an unknown coding": ((b"Transfer-Encoding: xchunked",), CHUNKS),
    "a vertical tab": ((b"Transfer-Encoding: \x0bchunked",), CHUNKS),
    "a folded line": ((LENGTH, b"X-A: b", b" c"), BODY),
    "a bare CR": ((LENGTH, b"X-A: b\rX-C: d"), BODY),
    "a bare LF": ((LENGTH, b"X-A: b\nX-C: d"), BODY),
    "a NUL": ((LENGTH, b"X-A: b\0"), BODY),
    "a name with a blank": ((LENGTH, b"X A: b"), BODY),
    "no colon": ((LENGTH, b"X-A"), BODY),
    "two hosts": ((LENGTH, b"Host: b"), BODY),
    "two types": ((LENGTH, b"Content-Type: text/plain"), BODY),
    "two API keys": ((LENGTH, b"X-API-Key: sk_other"), BODY),
    "one key twice, in another case": ((LENGTH, b"x-api-key: sk_other"), BODY),
    "two client tokens": ((LENGTH, b"X-Client-Token: other"), BODY),
    "two admin tokens": ((LENGTH, b"X-Admin-Token: a", b"X-Admin-Token: b"), BODY),
    "two admin keys": ((LENGTH, b"X-Admin-API-Key: a", b"x-admin-api-key: b"), BODY),
    "two admin secrets": ((LENGTH, b"X-Admin-Secret: a", b"X-Admin-Secret: a"), BODY),
    "two authorizations": ((LENGTH, b"Authorization: Bearer a", b"Authorization: Bearer b"), BODY),
    "two idempotency keys": ((LENGTH, b"Idempotency-Key: a", b"Idempotency-Key: b"), BODY),
    "a broken chunk": ((CHUNKED,), b"zz\r\n"),
    "an endless chunk": ((CHUNKED,), b"ffffffffffffffffff\r\n"),
    "a chunk that is longer than it says": ((CHUNKED,), b"2\r\n" + CHUNKS),
    "a line of 9,000 bytes": ((LENGTH, b"X-A: " + b"a" * 9000), BODY),
    "200 headers": ((LENGTH, *(b"X-A%d: a" % number for number in range(200))), BODY),
    "an unknown expectation": ((LENGTH, b"Expect: everything"), BODY),
    "an unknown encoding": ((LENGTH, b"Content-Encoding: x"), BODY),
    "brotli": ((LENGTH, b"Content-Encoding: br"), BODY),
    "two encodings": ((LENGTH, b"Content-Encoding: gzip, gzip"), BODY),
    "no gzip at all": ((LENGTH, b"Content-Encoding: gzip"), BODY),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_what_is_ambiguous_is_refused(port: int, world: World, path: str, name: str) -> None:
    lines, body = AMBIGUOUS[name]

    check_refused(await ask(port, request(world, path, *lines, body=body)), path)


@pytest.mark.parametrize("path", PATHS)
async def test_line_ends_without_cr_are_refused(port: int, world: World, path: str) -> None:
    check_refused(await ask(port, request(world, path, LENGTH, end=b"\n")), path)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/11", b"http/1.1", b""])
async def test_other_versions_are_refused(port: int, world: World, path: str, version: bytes) -> None:
    check_refused(await ask(port, request(world, path, LENGTH).replace(b"HTTP/1.1", version)), path)


@pytest.mark.parametrize(
    "raw",
    [b"\x16\x03\x01\x02\0\x01\0\x01\xfc\r\n", b"\0\r\n\r\n", b"hello\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
)
async def test_what_is_no_http_is_answered(port: int, raw: bytes) -> None:
    check_refused(await ask(port, raw), PATHS[0])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("late", [b"zz\r\n", b"5\r\n{}"])
async def test_a_body_that_breaks_later_is_answered_at_once(port: int, world: World, path: str, late: bytes) -> None:
    connection = await RawConnection.open(port)
    await connection.send(request(world, path, CHUNKED, body=b"5\r\n     \r\n"))
    with pytest.raises(TimeoutError):
        await connection.receive(0.2)
    await connection.send(late + b"\r\n\r\n\r\n")
    answer = await connection.receive()

    assert answer is not None
    check_refused(answer, path)
    assert await connection.ended(30)
    await connection.close()


async def test_the_rest_of_a_short_body_is_the_next_request(port: int, world: World) -> None:
    """What follows a body is a request of its own, with its own credentials: it has none of the first one's."""
    inner = b"POST /api/v1/license/validate HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
    connection = await RawConnection.open(port)
    await connection.send(request(world, PATHS[0], b"Content-Length: 2", body=b"{}" + inner))
    first, second = await connection.receive(), await connection.receive()
    await connection.close()

    assert first is not None
    assert second is not None
    assert (first.status, second.status) == (400, 401)


async def test_requests_of_all_kinds_on_one_connection_are_answered_in_their_order(port: int, world: World) -> None:
    """Those that came whole, and have no parameters in their path, go another way through the server than the rest."""
    empty = request(world, PATHS[0], b"Content-Length: 2", body=b"{}")
    chunked = request(world, PATHS[0], CHUNKED, body=b"2\r\n{}\r\n0\r\n\r\n")
    alive = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    last = request(world, PATHS[0], b"Content-Length: 2", b"Connection: close", body=b"{}")
    connection = await RawConnection.open(port)
    await connection.send(empty + empty)
    answers = [await connection.receive() for _ in range(2)]
    await connection.send(empty + alive + empty + chunked + empty[:-1])
    answers += [await connection.receive() for _ in range(4)]
    await connection.send(empty[-1:] + alive + last)
    answers += [await connection.receive() for _ in range(4)]
    await connection.close()

    assert answers[-1] is None, "the connection goes on after the answer that ends it"
    answered = [answer for answer in answers if answer is not None]
    assert [answer.status for answer in answered] == [400, 400, 400, 200, 400, 400, 400, 200, 400]
    assert len({answer.headers["x-request-id"] for answer in answered}) == len(answered)
    assert [answer.closes for answer in answered] == [False] * 8 + [True]


async def test_trailers_are_no_headers(port: int) -> None:
    body = b"2\r\n{}\r\n0\r\nX-API-Key: sk_a\r\n\r\n"
    raw = b"POST /api/v1/license/validate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body

    assert (await ask(port, raw)).status == 401


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("coding, pack", [(b"gzip", gzip.compress), (b"deflate", zlib.compress)])
async def test_compressed_bodies_are_read_and_bombs_are_not(
    port: int, world: World, path: str, coding: bytes, pack: Callable[[bytes], bytes]
) -> None:
    small, bomb = pack(BODY), pack(b" " * 50_000_000 + BODY)
    assert len(bomb) < 60_000
    read = await ask(
        port, request(world, path, b"Content-Encoding: " + coding, b"Content-Length: %d" % len(small), body=small)
    )
    burst = await ask(
        port, request(world, path, b"Content-Encoding: " + coding, b"Content-Length: %d" % len(bomb), body=bomb)
    )

    assert read.status == 404
    check_refused(burst, path, (413, 413))


@pytest.mark.parametrize("path", PATHS)
async def test_large_bodies_are_refused_however_they_come(port: int, world: World, path: str) -> None:
    body = b'{"a":"' + b"a" * 65_536 + b'"}'
    whole = await ask(port, request(world, path, b"Content-Length: %d" % len(body), body=body))
    announced = await ask(port, request(world, path, b"Content-Length: 1000000000", body=b"{"))
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(part), part) for part in (body[i : i + 5000] for i in range(0, len(body), 5000))
    )
    in_chunks = await ask(port, request(world, path, CHUNKED, body=chunks + b"0\r\n\r\n"))

    for answer in (whole, announced, in_chunks):
        check_refused(answer, path, (413, 413))


@pytest.mark.parametrize("path", ["/nothing", "/licenses-api/v1/nothing"])
@pytest.mark.parametrize("headers", [b"", b"Expect: everything\r\n"])
async def test_unknown_routes_answer_in_their_dialect(port: int, path: str, headers: bytes) -> None:
    answer = await ask(port, b"GET %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (path.encode(), headers))

    assert answer.problem() is None
    assert set(json.loads(answer.body)) == (
        {"detail"} if "licenses-api" in path else {"error", "error_code", "details"}
    )


async def test_no_answer_names_libraries(port: int) -> None:
    for raw in (b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\0\r\n\r\n"):
        assert (await ask(port, raw)).headers["server"] == "lizenzserver"
