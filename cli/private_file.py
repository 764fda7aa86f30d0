"""Files that are complete or not there, and that their owner alone may read: they hold keys or personal data."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.errors import Failure


@contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """Give an empty file beside `path`, to be written by its name; it takes that place when all went well.

    What was there before is replaced. Raises Failure where that is no file, such as a folder or a device; OSError.
    """
    if path.exists() and not path.is_file():
        raise Failure(f"{path} is no file")
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        _make(draft, path)
        yield draft
        _store(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _make(draft: Path, path: Path) -> None:
    try:
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        # Nobody knows the draft's name.
        error.filename = str(path)
        raise


def _store(path: Path) -> None:
    """Have the content on the disk before its name: a power cut must not leave an empty file that looks whole."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
