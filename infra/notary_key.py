"""The notary's key, and its last checkpoint as it is kept outside the database."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from domain.audit.checkpoint import VerifierKey
from infra.keyring import KeyringError, from_base64url, to_base64url
from infra.settings import Settings

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class NotaryKey:
    """An Ed25519 key of its own; `verifier` is its public half with the log's name."""

    verifier: VerifierKey
    _signing: SigningKey = field(repr=False)

    @classmethod
    def open(cls, settings: Settings, instance: str) -> Self:
        """Return the key that AUDIT_KEY gives, else the one in the data folder, made there at first use.

        The log's name is AUDIT_ORIGIN, else made of `instance`, the installation's fingerprint. Raises KeyringError.
        """
        if settings.audit_key is not None:
            seed = _decoded(settings.audit_key.reveal(), "AUDIT_KEY")
        else:
            path = _path(settings)
            try:
                seed = _from_file(path)
            except OSError as error:
                raise KeyringError(f"{path} can't be used: {error.strerror}") from error
        signing = SigningKey(seed)
        name = settings.audit_origin or f"lizenzserver/{instance}"
        return cls(VerifierKey(name, bytes(signing.verify_key)), signing)

    @staticmethod
    def is_there(settings: Settings) -> bool:
        """Tell whether this machine has a key already."""
        return settings.audit_key is not None or _path(settings).exists()

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message."""
        return self._signing.sign(message).signature


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether a message has a signature, by an Ed25519 public key."""
    try:
        VerifyKey(public).verify(message, signature)
    except (BadSignatureError, ValueError):
        return False
    return True


class KeptCheckpoint:
    """The last checkpoint, in the data folder: what a database that was put back to an earlier time can't forget."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "audit" / "checkpoint"

    def read(self) -> str | None:
        """Return its text, also where it is none; None where there is no file. Raises OSError."""
        try:
            return self.path.read_text("utf-8", "replace")
        except FileNotFoundError:
            return None

    def write(self, note: str) -> None:
        """Put it in place of the last one, on the disk before this returns. Raises OSError."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        try:
            _write(draft, note.encode(), 0o644)
            draft.replace(self.path)
        finally:
            draft.unlink(missing_ok=True)
        _sync_folder(self.path.parent)


def _path(settings: Settings) -> Path:
    return settings.data_dir / "keys" / "audit.key"


def _from_file(path: Path) -> bytes:
    """Read the key; make it where there is none. Of processes that start at once, the first link wins."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            _write(draft, to_base64url(secrets.token_bytes(_KEY_BYTES)).encode(), 0o600)
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink(missing_ok=True)
        _sync_folder(path.parent)
    return _decoded(path.read_text("ascii", "replace"), str(path))


def _decoded(text: str, where: str) -> bytes:
    try:
        seed = from_base64url(text.strip().rstrip("="))
    except ValueError:
        seed = b""
    if len(seed) != _KEY_BYTES:
        raise KeyringError(f"{where} is not 32 bytes in base64url")
    return seed


def _write(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the folder's new entries survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
