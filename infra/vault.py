"""Seals personal data under the data key of its subject, so that to destroy the key is to erase the subject."""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Literal
from uuid import UUID, uuid4

import msgspec
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_secretbox_easy,
    crypto_secretbox_KEYBYTES,
    crypto_secretbox_NONCEBYTES,
    crypto_secretbox_open_easy,
)
from nacl.exceptions import CryptoError
from nacl.utils import random

LookupKind = Literal["customer", "email", "network", "address", "key"]
"""What a lookup hash stands for; equal values of different kinds have different hashes."""

log = logging.getLogger(__name__)

MAX_DESTROYED = 1_000_000
"""Subjects that are remembered as erased, so that no read that was under way brings their keys back."""

_FORMAT = b"\x01"
_KEY_BYTES = crypto_secretbox_KEYBYTES
_NONCE_BYTES = crypto_secretbox_NONCEBYTES
"""Of XChaCha20-Poly1305 too."""


class UnknownSubject(Exception):
    """The data key of this subject is not in memory: `remember` it first; if it has no row, it was erased."""


class SealBroken(Exception):
    """What should have been sealed by this service was altered, cut, or sealed under another key."""


class Vault:
    """Seals and opens under keys that are wrapped by the service's own. Safe to use from several threads.

    A data subject is a customer, or the day of an address whose key is unknown. Its data key is 32 random bytes; the
    wrapped form is stored, at most `capacity` of them are kept unwrapped, and the least used go first.

    `master` and `lookup_key` are 32 bytes each. For 120 bytes of JSON, `seal` costs 3.2 µs, `open` 3.6 µs,
    `remember` 5 µs, `new_subject` 8 µs, `tag` 3 µs, `lookup_hash` 2 µs, `seal_answer` of 500 bytes 4 µs (measured).
    """

    def __init__(self, master: bytes, lookup_key: bytes, capacity: int = 100_000) -> None:
        self._wrapping_key = _subkey(master, b"data keys")
        self._secrets_key = _subkey(master, b"secrets")
        self._answers_key = _subkey(master, b"answers")
        self._lookup_key = lookup_key
        self._capacity = capacity
        self._keys: OrderedDict[UUID, bytes] = OrderedDict()
        self._destroyed: OrderedDict[UUID, None] = OrderedDict()
        self._damaged: set[UUID] = set()
        self._lock = threading.Lock()

    def new_subject(self) -> tuple[UUID, bytes]:
        """Make a subject; return its id and its wrapped data key (73 bytes) for storage. It is remembered at once."""
        subject_id = uuid4()
        key = random(_KEY_BYTES)
        self._keep(subject_id, key)
        return subject_id, self._wrap(key, subject_id)

    def remember(self, subject_id: UUID, wrapped: bytes) -> None:
        """Unwrap a stored data key and keep it; SealBroken when it was altered or is another subject's."""
        if not self.knows(subject_id):
            self._keep(subject_id, self._unwrap(wrapped, subject_id))

    def take(self, subject_id: UUID, wrapped: bytes | None) -> bool:
        """Take a data key as it is stored; tell whether it is in memory now. None: the subject was erased.

        One that is damaged is logged, once; its subject is as one that was erased. It must not hold up all others.
        """
        if wrapped is None:
            self.destroy((subject_id,))
            return False
        try:
            self.remember(subject_id, bytes(wrapped))
        except SealBroken as error:
            with self._lock:
                is_new = subject_id not in self._damaged
                self._damaged.add(subject_id)
            if is_new:
                log.warning("what is sealed for data subject %s stays closed: %s", subject_id, error)
        return self.knows(subject_id)

    def destroy(self, subject_ids: Iterable[UUID]) -> None:
        """Drop the data keys of subjects that were erased, for good: what is remembered later is not kept."""
        with self._lock:
            for subject_id in subject_ids:
                self._keys.pop(subject_id, None)
                self._destroyed[subject_id] = None
            while len(self._destroyed) > MAX_DESTROYED:
                self._destroyed.popitem(last=False)

    def clear(self) -> None:
        """Drop all data keys from memory."""
        with self._lock:
            self._keys.clear()

    def knows(self, subject_id: UUID) -> bool:
        """Tell whether the data key is in memory. Who asks is about to use it: others go first then."""
        with self._lock:
            if subject_id not in self._keys:
                return False
            self._keys.move_to_end(subject_id)
            return True

    def forget(self, subject_id: UUID) -> None:
        """Drop the data key from memory; no matter if it isn't there."""
        with self._lock:
            self._keys.pop(subject_id, None)

    def seal(self, subject_id: UUID, value: Any) -> bytes:
        """Return a value that JSON can hold, sealed: a format byte, 24 bytes of nonce, JSON and 16 bytes of MAC.

        Raises UnknownSubject.
        """
        return _seal(self._key(subject_id), msgspec.json.encode(value))

    def open(self, subject_id: UUID, blob: bytes) -> Any:
        """Return what `seal` sealed; UnknownSubject, or SealBroken when the blob isn't what this subject's key made."""
        return msgspec.json.decode(_open(self._key(subject_id), blob))

    def tag(self, subject_id: UUID, text: str) -> bytes:
        """Return 16 bytes that are equal for equal texts of this subject, and mean nothing once its key is gone.

        Raises UnknownSubject.
        """
        return hmac.digest(_subkey(self._key(subject_id), b"tag"), text.encode(), "sha256")[:16]

    def lookup_hash(self, kind: LookupKind, value: str) -> bytes:
        """Return the 32-byte HMAC-SHA256 by which a value is found; e-mails regardless of case and outer blanks."""
        text = value.strip().casefold() if kind == "email" else value
        return hmac.digest(self._lookup_key, f"{kind}\0{text}".encode(), "sha256")

    def seal_secret(self, secret: bytes | str) -> bytes:
        """Return a secret of the service's own, such as a licence key, sealed under a key derived from `master`."""
        return _seal(self._secrets_key, secret.encode() if isinstance(secret, str) else secret)

    def open_secret(self, blob: bytes) -> bytes:
        """Return what `seal_secret` sealed, text as UTF-8; SealBroken when it is anything else."""
        return _open(self._secrets_key, blob)

    def seal_answer(self, idempotency_key: str, scope: bytes, answer: bytes) -> bytes:
        """Return an answer that opens only for who repeats the idempotency key in the same scope."""
        return _seal(self._answer_key(idempotency_key, scope), answer)

    def open_answer(self, idempotency_key: str, scope: bytes, blob: bytes) -> bytes:
        """Return what `seal_answer` sealed; SealBroken for another key, scope or blob."""
        return _open(self._answer_key(idempotency_key, scope), blob)

    def _answer_key(self, idempotency_key: str, scope: bytes) -> bytes:
        key = idempotency_key.encode()
        # The length keeps key and scope apart: "ab" in "c" is not "a" in "bc".
        return _subkey(self._answers_key, b"answer", len(key).to_bytes(4) + key + scope)

    def _wrap(self, key: bytes, subject_id: UUID) -> bytes:
        nonce = random(_NONCE_BYTES)
        bound = _FORMAT + subject_id.bytes
        return _FORMAT + nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(key, bound, nonce, self._wrapping_key)

    def _unwrap(self, wrapped: bytes, subject_id: UUID) -> bytes:
        nonce, sealed = wrapped[1 : 1 + _NONCE_BYTES], wrapped[1 + _NONCE_BYTES :]
        bound = wrapped[:1] + subject_id.bytes
        try:
            return crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, bound, nonce, self._wrapping_key)
        except (CryptoError, ValueError, TypeError):
            raise SealBroken("not the data key of this subject") from None

    def _keep(self, subject_id: UUID, key: bytes) -> None:
        with self._lock:
            if subject_id in self._destroyed:
                return
            self._keys[subject_id] = key
            if len(self._keys) > self._capacity:
                self._keys.popitem(last=False)

    def _key(self, subject_id: UUID) -> bytes:
        with self._lock:
            key = self._keys.get(subject_id)
            if key is None:
                raise UnknownSubject(str(subject_id))
            self._keys.move_to_end(subject_id)
            return key


def _subkey(key: bytes, purpose: bytes, context: bytes = b"") -> bytes:
    """Return 32 bytes of keyed BLAKE2b, its personalisation (at most 16 bytes) keeping the purposes apart."""
    return hashlib.blake2b(context, key=key, person=purpose, digest_size=32).digest()


def _seal(key: bytes, plain: bytes) -> bytes:
    nonce = random(_NONCE_BYTES)
    return _FORMAT + nonce + crypto_secretbox_easy(plain, nonce, key)


def _open(key: bytes, blob: bytes) -> bytes:
    if blob[:1] != _FORMAT:
        raise SealBroken("of an unknown format")
    try:
        return crypto_secretbox_open_easy(blob[1 + _NONCE_BYTES :], blob[1 : 1 + _NONCE_BYTES], key)
    except (CryptoError, ValueError, TypeError):
        raise SealBroken("altered, or sealed under another key") from None
