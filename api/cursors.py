"""Cursors of lists: where a page ended and how many there were at the start, handed back unaltered by the client."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import NamedTuple

from domain.errors import Invalid
from infra.keyring import Keyring

_RAW_BYTES = 24
_MAC_BYTES = 12


class Cursor(NamedTuple):
    """Continues before a log position. `total` was counted once, on the first page: counting costs more than paging."""

    position: int
    total: int
    page: int


def cursor_of(keyring: Keyring, cursor: Cursor, filters: bytes) -> str:
    """Write a cursor that is good for a list under the same filters only."""
    raw = b"".join(part.to_bytes(8) for part in cursor)
    return base64.urlsafe_b64encode(raw + _mac(keyring, raw + filters)).rstrip(b"=").decode()


def read_cursor(keyring: Keyring, text: str, filters: bytes) -> Cursor:
    """Read a cursor. Raises Invalid for one that was not made here, or for a list under other filters."""
    try:
        data = base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        data = b""
    raw, mac = data[:_RAW_BYTES], data[_RAW_BYTES:]
    cursor = Cursor(int.from_bytes(raw[:8]), int.from_bytes(raw[8:16]), int.from_bytes(raw[16:]))
    if not hmac.compare_digest(mac, _mac(keyring, raw + filters)) or cursor_of(keyring, cursor, filters) != text:
        raise Invalid(cursor="is not a cursor of this list")
    return cursor


def _mac(keyring: Keyring, raw: bytes) -> bytes:
    return hashlib.blake2b(raw, key=keyring.derive("cursors"), digest_size=_MAC_BYTES).digest()
