"""The keys of a service: one secret that everything sealed rests on, and the Ed25519 keys that sign."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Self

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from nacl.signing import SigningKey

from infra.durable_files import put, sync_folder

LONGEST_LIFE = timedelta(days=30)
"""Of a token, hence how long a retired key is still needed."""

ACCEPTED_AFTER_RETIREMENT = LONGEST_LIFE + timedelta(days=1)
"""The day more is for processes that still signed with the key before they saw its retirement."""

_KEY_BYTES = 32


class KeyringError(Exception):
    """A key is missing, malformed or can't be read. The message is for people and holds no key."""


def to_base64url(raw: bytes) -> str:
    """Return the base64url form without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """Return what `to_base64url` encoded; ValueError for any other spelling of it, with padding or stray bits."""
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if to_base64url(raw) != text:
        raise ValueError("not canonical base64url")
    return raw


class _StoredKey(msgspec.Struct):
    """A signing key as a file or an element of the setting holds it."""

    private_key: str
    created_at: Annotated[datetime, msgspec.Meta(tz=True)]
    retired_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


@dataclass(frozen=True, slots=True)
class SigningKeyPair:
    """One Ed25519 key: PyNaCl signs with it, PyJWT verifies; `kid` is its RFC 7638 thumbprint."""

    kid: str
    created_at: datetime
    retired_at: datetime | None
    public_raw: bytes
    public: Ed25519PublicKey = field(repr=False)
    signing: SigningKey = field(repr=False)

    @classmethod
    def from_seed(cls, seed: bytes, created_at: datetime, retired_at: datetime | None = None) -> Self:
        """Build the pair from its 32-byte seed; ValueError when it has another length."""
        signing = SigningKey(seed)
        raw = bytes(signing.verify_key)
        return cls(_thumbprint(raw), created_at, retired_at, raw, Ed25519PublicKey.from_public_bytes(raw), signing)

    @property
    def jwk(self) -> dict[str, str]:
        """The public key as RFC 8037 writes it."""
        x = to_base64url(self.public_raw)
        return {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.kid, "x": x}

    def accepted(self, now: datetime) -> bool:
        """Tell whether what this key signed is still believed."""
        return self.retired_at is None or now < self.retired_at + ACCEPTED_AFTER_RETIREMENT

    def stored(self) -> bytes:
        """Return the JSON that a key file holds, the seed included."""
        return msgspec.json.encode(_StoredKey(to_base64url(bytes(self.signing)), self.created_at, self.retired_at))


@dataclass(frozen=True, slots=True)
class _Ring:
    """The signing keys as last read, replaced as a whole so that readers in other threads need no lock."""

    by_kid: dict[str, SigningKeyPair]
    active: SigningKeyPair
    folder_mtime: int

    @classmethod
    def of(cls, pairs: list[SigningKeyPair], folder_mtime: int = 0) -> Self:
        current = [pair for pair in pairs if pair.retired_at is None]
        if not current:
            raise KeyringError("there is no signing key that is not retired")
        newest = max(current, key=lambda pair: (pair.created_at, pair.kid))
        return cls({pair.kid: pair for pair in pairs}, newest, folder_mtime)


class Keyring:
    """The service key and the signing keys, from settings or from files in the data folder.

    Safe to use from several threads. A rotation by another process is noticed by the folder's modification time, at
    each use of `active` and at each kid that is not known: one stat (2 µs), so made-up kids cost no more than that.
    """

    def __init__(self, service_key: bytes, ring: _Ring, folder: Path | None) -> None:
        self._service_key = service_key
        self._ring = ring
        self._folder = folder
        self._unreadable_mtime: int | None = None

    @classmethod
    def open(cls, folder: Path, service_key: str | None, signing_keys: str | None) -> Self:
        """Return the keys given, else those in `folder`, made there at first use and readable by their owner only.

        `service_key` is 32 bytes in base64url. `signing_keys` is a JSON list of `{"private_key": <32-byte seed in
        base64url>, "created_at": <RFC 3339>, "retired_at": null | <RFC 3339>}`. Raises KeyringError.
        """
        try:
            secret = raw_key_in(folder / "service.key") if service_key is None else raw_key(service_key, "SERVICE_KEY")
            if signing_keys is not None:
                return cls(secret, _ring_from_setting(signing_keys), None)
            signing = folder / "signing"
            _make_first_key(signing)
            return cls(secret, _ring_from_folder(signing), signing)
        except OSError as error:
            raise KeyringError(f"the keys in {folder} can't be used: {error.strerror}") from error

    def derive(self, purpose: str) -> bytes:
        """Return the 32-byte subkey for a purpose: BLAKE2b keyed with the service key (RFC 7693, section 2.9)."""
        person = b"lizenzserver/key"
        return hashlib.blake2b(purpose.encode(), key=self._service_key, person=person, digest_size=_KEY_BYTES).digest()

    @property
    def fingerprint(self) -> str:
        """16 hex digits that tell service keys apart and say nothing about them."""
        return self.derive("fingerprint")[:8].hex()

    @property
    def active(self) -> SigningKeyPair:
        """The key that signs now: the newest that is not retired."""
        self._refresh()
        return self._ring.active

    def verifying(self, kid: str, now: datetime) -> Ed25519PublicKey | None:
        """Return the public key named, or None when there is none or its time is over."""
        pair = self._ring.by_kid.get(kid)
        if pair is None:
            self._refresh()
            pair = self._ring.by_kid.get(kid)
        return pair.public if pair is not None and pair.accepted(now) else None

    def accepted(self, now: datetime) -> tuple[SigningKeyPair, ...]:
        """Return the keys whose signatures are believed, the active one first, then from new to old."""
        self._refresh()
        ring = self._ring
        others = [pair for pair in ring.by_kid.values() if pair is not ring.active and pair.accepted(now)]
        return (ring.active, *sorted(others, key=lambda pair: pair.created_at, reverse=True))

    def jwks(self, now: datetime) -> dict[str, Any]:
        """Return the accepted public keys as a JWK set (RFC 7517), the active one first."""
        return {"keys": [pair.jwk for pair in self.accepted(now)]}

    def rotate(self, now: datetime) -> str:
        """Make a new key, retire the others, drop those that are no longer accepted; return the new kid.

        The new key is on disk before the old one is marked, so a crash leaves at least one key that signs, and the
        next rotation marks what this one did not. Raises KeyringError when the keys come from a setting.
        """
        if self._folder is None:
            raise KeyringError("the signing keys come from SIGNING_KEYS: add the new key there and retire the old")
        with _locked(self._folder):
            ring = _ring_from_folder(self._folder)
            # A clock that was set back must not make a key older than the one it replaces.
            created_at = max(now, ring.active.created_at + timedelta(microseconds=1))
            new = _publish_new_key(self._folder, created_at)
            for pair in ring.by_kid.values():
                path = _path_of(self._folder, pair)
                if not pair.accepted(now):
                    path.unlink(missing_ok=True)
                elif pair.retired_at is None:
                    put(path, replace(pair, retired_at=now).stored(), overwrite=True)
            _mark_changed(self._folder, since=ring.folder_mtime)
            self._ring = _ring_from_folder(self._folder)
        return new.kid

    def reload_if_changed(self) -> bool:
        """Read the signing keys again when their folder has changed since; tell whether it had.

        Raises KeyringError when they can't be read, and keeps those it has.
        """
        if self._folder is None:
            return False
        try:
            if self._folder.stat().st_mtime_ns == self._ring.folder_mtime:
                return False
            self._ring = _ring_from_folder(self._folder)
        except OSError as error:
            raise KeyringError(f"the keys in {self._folder} can't be read: {error.strerror}") from error
        return True

    def _refresh(self) -> None:
        """Reload for a caller that can't act on failure; a folder that can't be read is tried once for each change."""
        if self._folder is None:
            return
        try:
            mtime = self._folder.stat().st_mtime_ns
        except OSError:
            return
        if mtime in (self._ring.folder_mtime, self._unreadable_mtime):
            return
        try:
            self.reload_if_changed()
        except KeyringError:
            self._unreadable_mtime = mtime


def _thumbprint(public_raw: bytes) -> str:
    """Return the RFC 7638 thumbprint: SHA-256 over the required members in order, without blanks (RFC 8037, A.3)."""
    members = {"crv": "Ed25519", "kty": "OKP", "x": to_base64url(public_raw)}
    return to_base64url(hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest())


def raw_key(text: str, where: str) -> bytes:
    """Return the 32 bytes that a text has in base64url; `where` it stands is for people. Raises KeyringError."""
    try:
        key = from_base64url(text.strip().rstrip("="))
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise KeyringError(f"{where} is not 32 bytes in base64url")
    return key


def raw_key_in(path: Path) -> bytes:
    """Read a key of 32 bytes; make it when there is none. Of processes that start at once, the first link wins.

    Raises KeyringError, and OSError where the folder can't be used.
    """
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            put(path, to_base64url(secrets.token_bytes(_KEY_BYTES)).encode(), overwrite=False)
    return raw_key(path.read_bytes().decode(errors="replace"), str(path))


def _pair(stored: _StoredKey, where: str) -> SigningKeyPair:
    try:
        return SigningKeyPair.from_seed(from_base64url(stored.private_key), stored.created_at, stored.retired_at)
    except ValueError:
        raise KeyringError(f"the private_key in {where} is not a 32-byte seed in base64url") from None


def _ring_from_setting(text: str) -> _Ring:
    try:
        stored = msgspec.json.decode(text, type=list[_StoredKey])
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise KeyringError(f"SIGNING_KEYS is malformed: {error}") from None
    return _Ring.of([_pair(key, f"key {number} of SIGNING_KEYS") for number, key in enumerate(stored, 1)])


def _ring_from_folder(folder: Path) -> _Ring:
    """Read every key file. The time of modification is taken first, so that a later change is never missed."""
    mtime = folder.stat().st_mtime_ns
    pairs = []
    for path in sorted(folder.glob("*.json")):
        try:
            stored = msgspec.json.decode(path.read_bytes(), type=_StoredKey)
        except FileNotFoundError:  # A rotation has just dropped a key that is no longer accepted.
            continue
        except msgspec.MsgspecError as error:
            raise KeyringError(f"{path} is malformed: {error}") from None
        pair = _pair(stored, str(path))
        if path != _path_of(folder, pair):
            raise KeyringError(f"{path} holds another key than its name says: {pair.kid}")
        pairs.append(pair)
    return _Ring.of(pairs, mtime)


def _make_first_key(folder: Path) -> None:
    """Make a signing key unless there is one; the lock keeps processes that start at once from making two."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(folder):
        if not any(folder.glob("*.json")):
            # Only orders keys and informs people; no decision rests on it, so the machine's clock will do.
            _publish_new_key(folder, datetime.now(UTC))


def _publish_new_key(folder: Path, created_at: datetime) -> SigningKeyPair:
    pair = SigningKeyPair.from_seed(secrets.token_bytes(_KEY_BYTES), created_at)
    put(_path_of(folder, pair), pair.stored(), overwrite=False)
    return pair


def _path_of(folder: Path, pair: SigningKeyPair) -> Path:
    """Return a key's file. The kid is always computed from a key, never taken from a token."""
    return folder / f"{pair.kid}.json"


def _mark_changed(folder: Path, since: int) -> None:
    """Move the folder's time of modification on, since changes within one tick of the file system share theirs."""
    stat = folder.stat()
    os.utime(folder, ns=(stat.st_atime_ns, max(stat.st_mtime_ns, since) + 1))
    sync_folder(folder)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder for one writer. The lock ends with its process, so a crash leaves none behind."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
