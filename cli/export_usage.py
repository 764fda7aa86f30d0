"""Exporting history: what both logs hold, into files as a backtest reads them."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cli.core import compose_core
from cli.errors import Failure
from cli.history import History, Wanted
from cli.output import progress
from cli.private_file import draft_of
from cli.usage_lines import Lines
from commands.event_mapper import decoder
from infra.postgres import Database
from infra.senders import Senders
from infra.settings import Settings

_BYTES_A_WRITE = 1 << 20


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote, and what is missing in it: addresses that were erased, events that can't be read."""

    lines: int
    licenses: int
    seconds: float
    unopened_addresses: int
    unreadable_events: int


def export(settings: Settings, database: Database, wanted: Wanted, usage: Path, licenses: Path) -> Exported:
    """Write two files; both take their places when both are complete.

    Raises Failure for a licence that is not there, OSError for a file, ForeignDatabase, KeyringError and psycopg's
    errors.
    """
    begun = time.monotonic()
    core = compose_core(settings, database)
    senders = Senders(core.vault)
    lines = Lines(senders, core.keyring.fingerprint)
    with closing(core.application), database.connect("lizenzserver-export") as connection:
        history = History(connection, wanted, decoder(), senders, lines)
        if not history.has_license:
            raise Failure(f"there is no licence {wanted.license_id}")
        with draft_of(usage) as usage_draft, draft_of(licenses) as licenses_draft:
            written = _write_usage(history, usage_draft)
            known = _write_licenses(history, licenses_draft)
    seconds = round(time.monotonic() - begun, 3)
    return Exported(written, known, seconds, lines.unopened, history.unreadable)


def _write_usage(history: History, path: Path) -> int:
    count = 0
    with path.open("wb", buffering=_BYTES_A_WRITE) as file, progress("Exporting", history.span.rows) as advance:
        for line in history.lines(advance):
            file.write(line)
            count += 1
    return count


def _write_licenses(history: History, path: Path) -> int:
    count, encode = 0, msgspec.json.Encoder().encode
    with path.open("wb", buffering=_BYTES_A_WRITE) as file:
        for license in history.licenses():
            file.write(encode(license) + b"\n")
            count += 1
    return count
