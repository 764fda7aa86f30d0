"""Detached Ed25519 signatures over JSON answers, so that a program finds out a server that is not ours."""

from __future__ import annotations

import base64
from typing import Any

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from infra.keyring import Keyring


def canonical(value: Any) -> bytes:
    """Return the one canonical JSON form of a value (RFC 8785, UTF-8).

    Raises ValueError for what has none: integers beyond 2^53 - 1, NaN, lone surrogates, types that JSON has not.
    """
    return rfc8785.dumps(value)


def sign_answer(keyring: Keyring, fields: dict[str, Any], field: str = "sig") -> dict[str, Any]:
    """Return the fields with `kid` and, under `field`, the base64 signature over all the others, `kid` included.

    The signature is 64 bytes in the standard alphabet, padded. `fields` holds JSON's own types only and no `field`.
    """
    key = keyring.active
    answer = {**fields, "kid": key.kid}
    signature = key.signing.sign(canonical(answer)).signature
    return {**answer, field: base64.b64encode(signature).decode()}


def verify_answer(public_key: bytes, answer: dict[str, Any], field: str = "sig") -> bool:
    """Tell whether `field` holds the signature by `public_key` (32 bytes) over all the other fields. Never raises."""
    rest = dict(answer)
    text = rest.pop(field, None)
    if not isinstance(text, str):
        return False
    try:
        signature = base64.b64decode(text, validate=True)
        if base64.b64encode(signature).decode() != text:
            return False
        VerifyKey(public_key).verify(canonical(rest), signature)
    except (CryptoError, ValueError, TypeError, RecursionError):
        return False
    return True


def public_key_pem(raw: bytes) -> str:
    """Return a 32-byte public key as PEM of its SubjectPublicKeyInfo (RFC 8410)."""
    key = Ed25519PublicKey.from_public_bytes(raw)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
