"""Cursors of lists: a log position that the client hands back unaltered."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from domain.errors import Invalid
from infra.keyring import Keyring

_MAC_BYTES = 12


def cursor_of(keyring: Keyring, position: int) -> str:
    """Make the cursor that continues before a position."""
    raw = position.to_bytes(8)
    return base64.urlsafe_b64encode(raw + _mac(keyring, raw)).rstrip(b"=").decode()


def position_of(keyring: Keyring, cursor: str) -> int:
    """Return a cursor's position. Raises Invalid for one that was not made here."""
    try:
        data = base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4))
    except (binascii.Error, ValueError):
        data = b""
    raw, mac = data[:8], data[8:]
    if not hmac.compare_digest(mac, _mac(keyring, raw)) or cursor_of(keyring, int.from_bytes(raw)) != cursor:
        raise Invalid(cursor="is not a cursor of this list")
    return int.from_bytes(raw)


def _mac(keyring: Keyring, raw: bytes) -> bytes:
    return hashlib.blake2b(raw, key=keyring.derive("cursors"), digest_size=_MAC_BYTES).digest()
