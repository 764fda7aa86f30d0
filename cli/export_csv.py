"""Exporting licences as CSV: page by page, into a file that is complete or not there."""

from __future__ import annotations

import csv
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from api.presentation import license_answer
from api.schemas.admin import LicenseAnswer
from cli.core import Workbench
from cli.csv_format import COLUMNS, csv_row
from cli.output import progress
from cli.private_file import draft_of
from projections import licenses
from projections.licenses import LicenseFilter

PAGE = 500
_BEYOND_ALL = 2**63 - 1


async def every_license(bench: Workbench, wanted: LicenseFilter) -> AsyncIterator[LicenseAnswer]:
    """Give all licences that match, newest first; those issued meanwhile are left out."""
    position = _BEYOND_ALL
    while rows := await licenses.page_before(bench.connection, wanted, position=position, limit=PAGE):
        for row in rows:
            yield license_answer(bench.vault, row)
        position = rows[-1].position


async def export(bench: Workbench, name: str) -> int:
    """Write all licences to a file, `-` for stdout; return how many."""
    total = await licenses.count(bench.connection, LicenseFilter())
    count = 0
    with _target(name) as file, progress("Exporting", total) as advance:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        async for license in every_license(bench, LicenseFilter()):
            writer.writerow(csv_row(license))
            count += 1
            advance(1)
    return count


@contextmanager
def _target(name: str) -> Iterator[TextIO]:
    """Give a file that takes its place when it is complete; its owner only may read it, since it holds keys."""
    if name == "-":
        yield sys.stdout
        return
    with draft_of(Path(name)) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        yield file
