"""Checkpoints: the tree's size and root, signed, as a few lines of text that anybody can keep (C2SP tlog-checkpoint).

Their signatures, and the keys by which they are verified, have the form of C2SP signed-note. Signing itself, and
verifying, are handed in.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from domain.audit.merkle import HASH_BYTES, Hash

Sign = Callable[[bytes], bytes]
"""Returns the Ed25519 signature (64 bytes) of a message."""
Verify = Callable[[bytes, bytes, bytes], bool]
"""Tells whether, by a public key (32 bytes), a message has a signature."""

NAME_PATTERN = r"[!-*,-~]{1,200}"
"""What a key may be called, and so a log: visible ASCII without a plus sign."""

_ED25519 = b"\x01"
_KEY_HASH_BYTES = 4
# Witnesses may be called anything without a space or a plus sign.
_SIGNATURE = re.compile(r"\u2014 ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
_VERIFIER = re.compile(rf"({NAME_PATTERN})\+([0-9a-f]{{8}})\+([A-Za-z0-9+/]+={{0,2}})")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


class BadCheckpoint(ValueError):
    """A checkpoint or a verifier key is malformed, or a signature is missing or wrong. The message is for people."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key (32 bytes) with the name of the log that it is for; as text `name+hash+base64`."""

    name: str
    public: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form. Raises BadCheckpoint."""
        found = _VERIFIER.fullmatch(text.strip())
        if found is None:
            raise BadCheckpoint("that is no verifier key, which looks like name+1a2b3c4d+AbC…")
        raw = _from_base64(found[3])
        key = cls(found[1], raw[1:])
        if raw[:1] != _ED25519 or len(key.public) != HASH_BYTES:
            raise BadCheckpoint("the verifier key is none of Ed25519")
        if key.hash.hex() != found[2]:
            raise BadCheckpoint("the verifier key is damaged: its hash is not that of its name and key")
        return key

    @property
    def hash(self) -> bytes:
        """4 bytes that tell keys apart (C2SP signed-note, "Signatures")."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:_KEY_HASH_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.hash.hex()}+{_to_base64(_ED25519 + self.public)}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is signed: of the log `origin`, the tree of its first `size` events has this root."""

    origin: str
    size: int
    root: Hash

    @property
    def text(self) -> str:
        """The lines that are signed."""
        return f"{self.origin}\n{self.size}\n{_to_base64(self.root)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A checkpoint with its signatures, as (name, 4 bytes of the key's hash, 64 bytes), not verified yet."""

    checkpoint: Checkpoint
    signatures: tuple[tuple[str, bytes, bytes], ...]
    signed: str

    @property
    def text(self) -> str:
        """All of it, as it was read."""
        below = "".join(f"\u2014 {name} {_to_base64(hash + signature)}\n" for name, hash, signature in self.signatures)
        return f"{self.signed}\n{below}"

    def is_by(self, key: VerifierKey) -> bool:
        """Tell whether it claims to be signed by a key."""
        return any((name, hash) == (key.name, key.hash) for name, hash, _ in self.signatures)

    def verified(self, key: VerifierKey, verify: Verify) -> Checkpoint:
        """Return the checkpoint where it is by this key and for its log. Raises BadCheckpoint."""
        if not self.is_by(key):
            raise BadCheckpoint(f"it is not signed by {key.name} with the key {key.hash.hex()}")
        for name, hash, signature in self.signatures:
            known = (name, hash) == (key.name, key.hash)
            if known and not verify(key.public, self.signed.encode(), signature):
                raise BadCheckpoint(f"the signature of {name} is wrong")
        if self.checkpoint.origin != key.name:
            raise BadCheckpoint(f"it is of the log {self.checkpoint.origin}, the key is for {key.name}")
        return self.checkpoint


def sign(checkpoint: Checkpoint, key: VerifierKey, signing: Sign) -> str:
    """Return a checkpoint with one signature."""
    text = checkpoint.text
    return Note(checkpoint, ((key.name, key.hash, signing(text.encode())),), text).text


def parse(text: str) -> Note:
    """Read one checkpoint with its signatures; lines after the root that we do not know are signed with it.

    Raises BadCheckpoint.
    """
    signed, separator, below = text.rpartition("\n\n")
    lines = signed.split("\n")
    if not separator or len(lines) < 3 or not all(lines):  # noqa: PLR2004 - origin, size, root
        raise BadCheckpoint("that is no checkpoint: a name, a size, a hash, an empty line and signatures")
    if not re.fullmatch(NAME_PATTERN, lines[0]) or not _SIZE.fullmatch(lines[1]):
        raise BadCheckpoint("the checkpoint's first two lines are no name and no size")
    root = _from_base64(lines[2])
    if len(root) != HASH_BYTES:
        raise BadCheckpoint("the checkpoint's third line is no SHA-256")
    signatures = tuple(_signatures(below))
    return Note(Checkpoint(lines[0], int(lines[1]), root), signatures, signed + "\n")


def parse_all(text: str) -> list[Note]:
    """Read checkpoints that were written one after the other. Raises BadCheckpoint."""
    notes: list[list[str]] = []
    is_below = True
    for line in (text.strip("\n") + "\n").splitlines(keepends=True):
        is_signature = line.startswith("\u2014 ")
        if is_below and not is_signature:
            notes.append([])
        is_below = is_signature
        notes[-1].append(line)
    return [parse("".join(lines)) for lines in notes]


def _signatures(text: str) -> Iterator[tuple[str, bytes, bytes]]:
    lines = text.split("\n")
    if lines.pop() or not lines:
        raise BadCheckpoint("the checkpoint's signatures are missing or cut off")
    for line in lines:
        found = _SIGNATURE.fullmatch(line)
        raw = _from_base64(found[2]) if found else b""
        if found is None or len(raw) <= _KEY_HASH_BYTES:
            raise BadCheckpoint("a line below the checkpoint is no signature")
        yield found[1], raw[:_KEY_HASH_BYTES], raw[_KEY_HASH_BYTES:]


def _to_base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _from_base64(text: str) -> bytes:
    """Decode, or return nothing where it is not base64 in its one right spelling."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return raw if _to_base64(raw) == text else b""
