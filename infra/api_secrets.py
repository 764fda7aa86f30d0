"""API keys, and the comparison of secrets."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
import zlib

_PREFIX = "sk_"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_SYMBOLS = 32  # 190 bits
_CHECKSUM_SYMBOLS = 6  # 62^6 > 2^32
_SHAPE = re.compile(rf"{_PREFIX}[0-9A-Za-z]{{{_RANDOM_SYMBOLS + _CHECKSUM_SYMBOLS}}}")


def new_api_key() -> str:
    """Return a fresh key: `sk_`, 32 random base62 symbols (190 bits), and 6 of checksum (CRC-32 of the 32)."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_SYMBOLS))
    return _PREFIX + body + _checksum(body)


def well_formed(key: str) -> bool:
    """Tell whether this could be a key at all, so that a mistyped or invented one costs no query.

    No secret is compared: the checksum is made from the text itself, and anybody can make one.
    """
    return _SHAPE.fullmatch(key) is not None and key.endswith(_checksum(key[len(_PREFIX) : -_CHECKSUM_SYMBOLS]))


def digest(key: str) -> bytes:
    """Return the SHA-256 (32 bytes) that is stored and looked up; 190 random bits need no salt and no slow hash."""
    return hashlib.sha256(_encoded(key)).digest()


def equal(a: str, b: str) -> bool:
    """Tell whether two secrets are equal, in a time that depends neither on where they differ nor on their lengths.

    Lengths are hidden up to the cost of hashing what the stranger sent, which he knows.
    """
    return hmac.compare_digest(digest(a), digest(b))


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    symbols = ""
    for _ in range(_CHECKSUM_SYMBOLS):
        number, rest = divmod(number, len(_ALPHABET))
        symbols = _ALPHABET[rest] + symbols
    return symbols


def _encoded(text: str) -> bytes:
    """Encode any str, also the lone surrogates by which HTTP headers that are not UTF-8 arrive."""
    return text.encode("utf-8", "surrogatepass")
