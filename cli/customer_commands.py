"""What the commands on customers do, apart from the command line."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from api import customers
from api.body import to_struct
from api.customer_export import LICENSES_PAGE, PAGE, CustomerExport
from api.customers import Customer
from api.schemas.customers import EraseRequest, NamedBy
from cli.core import Workbench
from cli.errors import Failure
from cli.output import working
from cli.private_file import draft_of
from commands.event_mapper import decoder
from commands.orders import EraseCustomer
from domain.errors import NotFound
from infra.erasure_register import Erasure

_encode = msgspec.json.Encoder().encode


async def erase(bench: Workbench, name: str, by: NamedBy, reason: str) -> dict[str, Any]:
    """Erase a customer and return who that was. Raises Failure, ServiceUnavailable."""
    body = to_struct({"reason": reason}, EraseRequest)
    return await bench.until_current(lambda: _erase(bench, name, by, body.reason))


async def _erase(bench: Workbench, name: str, by: NamedBy, reason: str) -> dict[str, Any]:
    found = await _find(bench, name, by)
    record_id = await bench.subjects.make(bench.connection)
    now, cause = bench.clock.now(), bench.cause(EraseCustomer)
    lines = [Erasure(subject_id=one, ordered_at=now, ordered_by=cause.actor) for one in found.subject_ids]
    await customers.enter(bench.core.register, lines)
    sealed = {"reason": bench.vault.seal(record_id, reason)}
    order = EraseCustomer(cause=cause, now=now, subjects=found.subjects, kept_under=record_id, sealed=sealed)
    await bench.execute(order)
    bench.vault.destroy(found.subject_ids)
    await customers.forget_behaviour(bench.connection, found.license_ids)
    return {
        "subject_ids": found.subject_ids,
        "license_ids": found.license_ids,
        "erased_at": now,
        "record_id": record_id,
        "licenses_of_others": found.licenses_of_others,
    }


async def _find(bench: Workbench, name: str, by: NamedBy) -> Customer:
    try:
        return await customers.find(bench.vault, bench.connection, name, by)
    except NotFound as nobody:
        others = nobody.details.get("licenses_of_others", [])
        also = f"; {len(others)} licences of others carry it, such as {others[0]}" if others else ""
        raise Failure(f"there is no such customer, or not any more{also}") from None


@dataclass(frozen=True, slots=True)
class Exported:
    """How much was written."""

    licenses: int
    events: int
    usage: int


async def export(bench: Workbench, name: str, by: NamedBy, out: str) -> Exported:
    """Write all that is stored of a customer as one JSON object, page after page. Raises Failure, OSError."""
    found = await _find(bench, name, by)
    exported = CustomerExport(bench.vault, bench.connection, found, decoder())
    await exported.open()
    with _target(out) as file, working("Exporting"):
        head = {
            "subject_ids": found.subject_ids,
            "licenses_of_others": found.licenses_of_others,
            "anomalies": await exported.anomalies(),
        }
        # The object goes on after its last brace.
        file.write(_encode(head)[:-1])
        licenses = await _write(file, b"licenses", exported.licenses, attrgetter("position"), LICENSES_PAGE)
        events = await _write(file, b"events", exported.events, attrgetter("position"), PAGE)
        usage = await _write(file, b"usage", exported.usage, attrgetter("id"), PAGE)
        file.write(b"}\n")
    return Exported(licenses, events, usage)


async def _write(
    file: BinaryIO,
    name: bytes,
    read: Callable[[int], Awaitable[Sequence[Any]]],
    position: Callable[[Any], int],
    most: int,
) -> int:
    """Write a list, page after page of at most so many; return how many there were."""
    file.write(b',"%b":[' % name)
    written, after = 0, 0
    while rows := await read(after):
        file.write((b",\n" if written else b"\n") + b",\n".join(map(_encode, rows)))
        written, after = written + len(rows), position(rows[-1])
        if len(rows) < most:
            break
    file.write(b"]")
    return written


@contextmanager
def _target(name: str) -> Iterator[BinaryIO]:
    """Give a file that takes its place when it is complete, readable by its owner only; `-` is stdout."""
    if name == "-":
        yield sys.stdout.buffer
        return
    with draft_of(Path(name)) as draft, draft.open("wb") as file:
        yield file
