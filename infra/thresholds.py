"""Thresholds of detection as data: read from a TOML file, checked, and written as one that explains itself.

What a threshold is for says the docstring under its field, which is nowhere else: it is read from the source.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import textwrap
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec.inspect import FloatType, IntType, StructType, TupleType, type_info

from domain.anomalies.thresholds import DEFAULT, Thresholds
from domain.anomalies.words import span

_WIDTH = 118
_LONGEST_SHOWN = 100

_HEADER = """\
Thresholds of detection. Keep the lines that you change, and delete the others: those then follow the program's own
values, after an upgrade too. Times are in seconds, distances in kilometres, weights are hundredths of one.
Check the file with `lizenzserver thresholds --check FILE`, and see what it would have raised with
`lizenzserver backtest --thresholds FILE --compare`, before ANOMALY_THRESHOLDS names it."""


class ThresholdsError(ValueError):
    """The file can't be used. The message is one line that names the file, the threshold, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """What there is to know of one threshold: the value it has where none is set, what it may be, and why it is."""

    name: str
    built_in: Any
    allowed: str
    reason: str


class Difference(msgspec.Struct, frozen=True):
    """A threshold that two sets have different values for."""

    name: str
    before: Any
    after: Any


@cache
def known() -> tuple[Threshold, ...]:
    """Describe all thresholds, in the order of their struct."""
    described = type_info(Thresholds)
    assert isinstance(described, StructType)
    reasons = _reasons()
    return tuple(
        Threshold(field.name, getattr(DEFAULT, field.name), _allowed(field.type), reasons[field.name])
        for field in described.fields
    )


def in_effect(path: Path | None) -> Thresholds:
    """Return the built-in thresholds, or those of the file that ANOMALY_THRESHOLDS names. Raises ThresholdsError."""
    return DEFAULT if path is None else load(path)


def load(path: Path) -> Thresholds:
    """Read a TOML file that sets some thresholds; the others have their built-in values. Raises ThresholdsError."""
    values = _parsed(path)
    names = {threshold.name: threshold for threshold in known()}
    for name, value in values.items():
        if name not in names:
            raise ThresholdsError(f"{_text(path)}: {_unknown(name, names)}")
        try:
            msgspec.convert({name: value}, Thresholds)
        except msgspec.ValidationError:
            raise ThresholdsError(f"{_text(path)}: {name} must be {names[name].allowed}, not {_given(value)}") from None
    found = msgspec.convert(values, Thresholds)
    if list(found.risk_points) != sorted(found.risk_points):
        raise ThresholdsError(f"{_text(path)}: risk_points must not fall from one severity to the next")
    return found


def differences(before: Thresholds, after: Thresholds) -> tuple[Difference, ...]:
    """Return the thresholds whose values differ, in their order."""
    pairs = ((name, getattr(before, name), getattr(after, name)) for name in (each.name for each in known()))
    return tuple(Difference(name, old, new) for name, old, new in pairs if old != new)


def as_toml(thresholds: Thresholds) -> str:
    """Write all thresholds as a file that `load` reads, each with its reason, and its built-in value if another."""
    parts = [_comment(_HEADER) + "\n"]
    for each in known():
        value = getattr(thresholds, each.name)
        note = f"Allowed: {each.allowed}."
        if value != each.built_in:
            note += f" Built in: {shown(each.name, each.built_in)}."
        line = f"{each.name} = {_written(value)}"
        words = _in_words(each.name, value)
        parts.append(f"{_comment(each.reason)}\n{_comment(note)}\n{line}{f'  # {words}' if words else ''}\n")
    return "\n".join(parts)


def shown(name: str, value: object) -> str:
    """Write a value for people: as TOML does, a time in words too."""
    words = _in_words(name, value)
    return f"{_written(value)} ({words})" if words else _written(value)


def _in_words(name: str, value: object) -> str:
    """Say a time in its largest whole unit, such as `7 days`; nothing for what is no time."""
    if not name.endswith("_seconds") or not isinstance(value, int) or not value:
        return ""
    return span(value) if value % 60 == 0 else ""


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ThresholdsError(f"{_text(path)}: the file can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ThresholdsError(f"{_text(path)}: the file is no text in UTF-8") from None
    except (ValueError, RecursionError) as error:  # beside what is no TOML: a number or a nesting without end
        raise ThresholdsError(f"{_text(path)}: the file is no TOML: {_text(error)}") from None


def _unknown(name: str, names: dict[str, Threshold]) -> str:
    alike = difflib.get_close_matches(name, names, n=1)
    hint = f"; do you mean {alike[0]}?" if alike else ""
    return f"there is no threshold {_text(name)}{hint}"


def _allowed(kind: object) -> str:
    if isinstance(kind, TupleType):
        return f"a list of {len(kind.item_types)}, each {_allowed(kind.item_types[0])}"
    assert isinstance(kind, IntType | FloatType)
    what = "a whole number" if isinstance(kind, IntType) else "a number"
    if kind.gt is not None:
        return f"{what} above {kind.gt}, at most {kind.le}"
    return f"{what} from {kind.ge} to {kind.le}"


@cache
def _reasons() -> dict[str, str]:
    """Return the docstring under each field, on one line."""
    (struct,) = ast.parse(textwrap.dedent(inspect.getsource(Thresholds))).body
    assert isinstance(struct, ast.ClassDef)
    found = {}
    for field, below in zip(struct.body, struct.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            found[field.target.id] = " ".join(str(ast.literal_eval(below.value)).split())
    return found


def _comment(text: str) -> str:
    lines = (line for part in text.split("\n") for line in textwrap.wrap(part, _WIDTH, break_long_words=False))
    return "".join(f"# {line}\n" for line in lines).rstrip("\n")


def _written(value: object) -> str:
    """Write a value as TOML does."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_written, value))}]"
    return repr(value) if isinstance(value, str | int | float) else str(value)


def _given(value: object) -> str:
    try:
        return _text(_written(value))
    except ValueError:  # of a whole number with thousands of digits
        return "that"


def _text(value: object) -> str:
    """Write something for a message: on one line, and no longer than is useful."""
    text = str(value)
    text = text if text.isprintable() else ascii(text)
    return text if isinstance(value, Path) or len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
