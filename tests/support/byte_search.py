"""Searching raw files for a text in every form in which it might lie about."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

_CHUNK = 8 << 20


def spellings(marker: str) -> set[bytes]:
    """Return the forms of a part of a text, in lower case: as it is, in UTF-16, in hex, and in base64 at any place."""
    plain = marker.lower().encode()
    coded = {_inner_base64(plain, at) for at in range(3)}
    return {plain, marker.lower().encode("utf-16-le"), plain.hex().encode(), *(form.lower() for form in coded)}


def _inner_base64(plain: bytes, at: int) -> bytes:
    """Return what is the same in the base64 of any text that has `plain` in it, beginning at 3n + `at` bytes."""
    encoded = base64.b64encode(b"\0" * at + plain)
    return encoded[-(-at * 8 // 6) : (at + len(plain)) * 8 // 6]


def found_in(folder: Path, *markers: str) -> Iterator[tuple[str, str]]:
    """Give each marker that is in a file below a folder in any form, with the file's name. Files may go meanwhile."""
    forms = [(marker, form) for marker in markers for form in spellings(marker)]
    longest = max(len(form) for _, form in forms)
    for path in sorted(folder.rglob("*")):
        if not path.is_symlink() and path.is_file():
            for marker in {marker for chunk in _chunks(path, longest) for marker, form in forms if form in chunk}:
                yield marker, str(path.relative_to(folder))


def _chunks(path: Path, overlap: int) -> Iterator[bytes]:
    """Give a file's content in lower case, in parts of which each begins with the end of the one before."""
    try:
        with path.open("rb") as file:
            end = b""
            while part := file.read(_CHUNK):
                yield (end + part).lower()
                end = part[-overlap:]
    except FileNotFoundError:
        return
