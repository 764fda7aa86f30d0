"""Forms and digests of the identifiers that programs and people send."""

from __future__ import annotations

import hashlib
import secrets
from functools import lru_cache
from typing import Literal
from uuid import UUID, uuid5

KEY_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""A-Z without I and O, digits 2-9: 32 symbols, 5 bits each; nothing in it is misread for something else."""

KEY_LENGTH = 12
"""Symbols in a licence key: 60 bits, so that guessing 20 keys in ten minutes finds nothing."""

KeyFormat = Literal["prefixed", "grouped"]


def new_license_key(form: KeyFormat) -> str:
    """Return a fresh key from the system's random source: `LIC-XXXXXXXXXXXX` or `XXXX-XXXX-XXXX`."""
    symbols = "".join(secrets.choice(KEY_ALPHABET) for _ in range(KEY_LENGTH))
    if form == "grouped":
        return f"{symbols[:4]}-{symbols[4:8]}-{symbols[8:]}"
    return f"LIC-{symbols}"


def normalize_license_key(text: str) -> str:
    """Return the key as it is digested: upper case, no blanks."""
    return "".join(text.split()).upper()


def license_key_digest(text: str) -> bytes:
    """Return the SHA-256 (32 bytes) of the normalised key, by which licences are looked up."""
    return hashlib.sha256(normalize_license_key(text).encode()).digest()


@lru_cache(4096)
def device_digest(hardware_id: str) -> bytes:
    """Return 16 bytes that stand for a hardware id in aggregates and indexes; an order asks for them three times."""
    return hashlib.sha256(hardware_id.encode()).digest()[:16]


USAGE_IDS = UUID("6f1b7b0e-3c1e-4c57-9a5f-0d5d1f6f2a31")
"""Namespace of usage rows' ids."""


def usage_row_id(instance: str, number: int) -> UUID:
    """Return the id of a usage row, by which the queue names it: the same row of an installation, the same id."""
    return uuid5(USAGE_IDS, f"{instance}/{number}")
