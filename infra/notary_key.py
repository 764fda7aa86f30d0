"""The notary's key, and its last checkpoint as it is kept outside the database."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from domain.audit.checkpoint import VerifierKey
from infra.durable_files import put
from infra.keyring import KeyringError, raw_key, raw_key_in
from infra.settings import Settings


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
            seed = raw_key(settings.audit_key.reveal(), "AUDIT_KEY")
        else:
            path = _path(settings)
            try:
                seed = raw_key_in(path)
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
        put(self.path, note.encode(), overwrite=True, mode=0o644)


def _path(settings: Settings) -> Path:
    return settings.data_dir / "keys" / "audit.key"
