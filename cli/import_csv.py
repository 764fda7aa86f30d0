"""Importing licences from CSV: everything is checked before anything is written, and a repeat adds nothing."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from api.issuing import prepare
from cli.core import Workbench
from cli.csv_format import NumberedRow, WrongCell, read_csv
from cli.errors import Failure
from cli.output import progress
from commands.orders import IssueLicenses
from domain.identifiers import license_key_digest

CHUNK = 500
"""Licences that are issued together, all or none."""

_EXISTING = "SELECT license_id, key_digest FROM licenses WHERE license_id = ANY(%s) OR key_digest = ANY(%s)"


@dataclass(slots=True)
class Imported:
    """What an import did: `licenses` has (line, id, key) of each that was issued, `skipped` counts those there were."""

    skipped: int = 0
    licenses: list[dict[str, Any]] = field(default_factory=list)


def read_file(name: str) -> list[NumberedRow]:
    """Read and check a whole file, `-` for stdin. Raises Failure that names the first wrong line and column."""
    raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    name = "stdin" if name == "-" else name
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Failure(f"{name} line {line}: this is no UTF-8; save the file as CSV in UTF-8") from None
    good: list[NumberedRow] = []
    wrong: list[WrongCell] = []
    try:
        for row in read_csv(text):
            good.append(row) if isinstance(row, NumberedRow) else wrong.append(row)
    except Failure as failure:
        raise Failure(f"{name} {failure}") from None
    wrong += _repeated_keys(good)
    if wrong:
        more = f" ({len(wrong) - 1} more rows are wrong)" if len(wrong) > 1 else ""
        raise Failure(f"{name} {wrong[0]}{more}; nothing was imported")
    return _with_ids(good, raw)


def _repeated_keys(rows: Sequence[NumberedRow]) -> list[WrongCell]:
    lines: dict[bytes, int] = {}
    wrong: list[WrongCell] = []
    for row in rows:
        if row.wanted.license_key is not None:
            first = lines.setdefault(license_key_digest(row.wanted.license_key), row.line)
            if first != row.line:
                wrong.append(WrongCell(row.line, "license_key", f"the same key is in line {first}"))
    return wrong


def _with_ids(rows: Sequence[NumberedRow], raw: bytes) -> list[NumberedRow]:
    """Give each licence an id that follows from the file and the line, so that a repeat of the file is recognised."""
    file = hashlib.sha256(raw).digest()
    return [
        NumberedRow(row.line, msgspec.structs.replace(row.wanted, license_id=_id_of(file, row.line))) for row in rows
    ]


def _id_of(file: bytes, line: int) -> UUID:
    return UUID(bytes=hashlib.sha256(file + line.to_bytes(8)).digest()[:16], version=4)


async def import_rows(bench: Workbench, rows: Sequence[NumberedRow]) -> Imported:
    """Issue what is not there yet, in chunks; a failure says how far it came, and the same file again goes on there."""
    done = Imported()
    with progress("Importing", len(rows)) as advance:
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            try:
                await bench.until_current(partial(_import_chunk, bench, chunk, done))
            except Exception as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                count = len(done.licenses)
                raise Failure(
                    f"stopped before line {chunk[0].line}, with {count} imported and {done.skipped} skipped: {reason};"
                    " the same command again goes on from there"
                ) from error
            advance(len(chunk))
    return done


async def _import_chunk(bench: Workbench, chunk: Sequence[NumberedRow], done: Imported) -> None:
    new = await _not_existing(bench.connection, chunk)
    if new:
        now = bench.clock.now()
        prepared = await prepare(bench.vault, bench.subjects, bench.connection, [row.wanted for row in new], now)
        order = IssueLicenses(
            cause=bench.cause(IssueLicenses), now=now, licenses=tuple(license for license, _ in prepared)
        )
        await bench.execute(order)
        done.licenses += [
            {"line": row.line, "license_id": shown.license_id, "license_key": shown.license_key}
            for row, (_, shown) in zip(new, prepared, strict=True)
        ]
    done.skipped += len(chunk) - len(new)


async def _not_existing(connection: AsyncConnection[Any], chunk: Sequence[NumberedRow]) -> list[NumberedRow]:
    keys = [license_key_digest(row.wanted.license_key) for row in chunk if row.wanted.license_key is not None]
    cursor = await connection.execute(_EXISTING, ([row.wanted.license_id for row in chunk], keys))
    found = await cursor.fetchall()
    ids = {row["license_id"] for row in found}
    digests = {bytes(row["key_digest"]) for row in found}
    return [
        row
        for row in chunk
        if row.wanted.license_id not in ids
        and (row.wanted.license_key is None or license_key_digest(row.wanted.license_key) not in digests)
    ]
