"""From a setting's text to its value. Each parser raises ValueError that says in one line why a text is wrong.

The reasons quote values that are no secrets only.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, TypeVar
from urllib.parse import urlsplit

from domain.audit.checkpoint import NAME_PATTERN
from infra.places import Places
from infra.thresholds import load

T = TypeVar("T")
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def shown(text: str) -> str:
    """Quote a value for a message: on one line, and no longer than is useful."""
    longest = 100
    return repr(text if len(text) <= longest else text[:longest] + "…")


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number in decimal digits, within both bounds."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text.strip()) or not least <= int(text) <= most:
            raise ValueError(f"{shown(text)} is not a whole number from {least} to {most}")
        return int(text)

    return parse


port = whole(1, 65_535)
"""A TCP port."""


def one_of(*choices: str) -> Callable[[str], str]:
    """One of the words, in any case; given back in lower case."""

    def parse(text: str) -> str:
        if text.strip().lower() not in choices:
            raise ValueError(f"{shown(text)} is none of {', '.join(choices)}")
        return text.strip().lower()

    return parse


def list_of(item: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """A comma list; empty parts are skipped."""
    return lambda text: tuple(item(part.strip()) for part in text.split(",") if part.strip())


def network(text: str) -> Network:
    """An address or a network in CIDR form."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is not an address or network such as 10.0.0.0/8") from None


def origin(text: str) -> str:
    """Origins compare as browsers send them: in lower case, without a path (RFC 6454, section 6.2)."""
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\\\s?#@*]+", text.lower()):
        raise ValueError(f"{shown(text)} is not an origin such as https://app.example.com (no path, no *)")
    return text.lower()


def host(text: str) -> str:
    """An address, or a host name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", text):
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise ValueError(f"{shown(text)} is neither an address nor a host name") from None
    return text


def postgresql(text: str) -> str:
    """An address of PostgreSQL; its parts are left to libpq."""
    try:
        parts = urlsplit(text)
        valid = parts.scheme == "postgresql" and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise ValueError("is not a postgresql://user:password@host:port/database address")
    return text


def address(*schemes: str) -> Callable[[str], str]:
    """A URL of one of two schemes, with a host."""

    def parse(text: str) -> str:
        try:
            parts = urlsplit(text)
            valid = parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            valid = False
        if not valid:
            raise ValueError(f"is not a {schemes[0]}:// or {schemes[1]}:// address")
        return text

    return parse


def log_name(text: str) -> str:
    """What a log is called in its checkpoints (C2SP signed-note, "Signatures")."""
    if not re.fullmatch(NAME_PATTERN, text):
        raise ValueError(f"{shown(text)} must be at most 200 visible ASCII characters without a plus sign")
    return text


def queue_name(text: str) -> str:
    """A queue of AMQP 0-9-1, whose names have at most 255 bytes; those that begin with `amq.` are the broker's."""
    if not re.fullmatch(r"(?!amq\.)[!-~]{1,255}", text):
        raise ValueError(f"{shown(text)} must be 1 to 255 visible ASCII characters, not amq. at their beginning")
    return text


def header_text(text: str) -> str:
    """A secret that can travel in an HTTP header."""
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError("must be printable ASCII without spaces, since it travels in a header")
    return text


def file_text(text: str) -> str:
    """What is in the file of that name, without the line ends after it.

    The name is not quoted: where a file is asked for, people paste the secret itself.
    """
    try:
        content = Path(text).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as wrong:
        raise ValueError(f"the file can't be read ({type(wrong).__name__})") from None
    if not content:
        raise ValueError("the file is empty")
    return content


def readable_file(text: str) -> Path:
    """A file with something in it that this process may read."""
    file_text(text)
    return Path(text).absolute()


def appendable_file(text: str) -> Path:
    """A file, there or not, in a folder that is there."""
    path = Path(text).absolute()
    if not path.parent.is_dir() or path.is_dir():
        raise ValueError(f"{shown(text)} is not a file in a folder that there is")
    return path


def geo_database(text: str) -> Path:
    """A database of countries or cities in the MMDB format."""
    path = Path(text).absolute()
    Places(path).close()
    return path


def thresholds(text: str) -> Path:
    """A TOML file that sets thresholds of detection."""
    path = Path(text).absolute()
    load(path)
    return path


def writable_folder(text: str) -> Path:
    """The folder, or the nearest one above it that exists, must be a folder that this process may write."""
    try:
        folder = Path(text).expanduser().absolute()
        existing = next(path for path in (folder, *folder.parents) if path.exists())
    except (OSError, RuntimeError, ValueError) as wrong:
        raise ValueError(f"{shown(text)} is not a usable folder ({type(wrong).__name__})") from None
    if not existing.is_dir():
        raise ValueError(f"{shown(str(existing))} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"{shown(str(existing))} is not writable")
    return folder


def file_of_ours(text: str) -> Path:
    """A file, there or not; whoever only reads it need not be able to make it."""
    path = Path(text).expanduser().absolute()
    if path.exists() and not path.is_file():
        raise ValueError(f"{shown(str(path))} is no file")
    return path
