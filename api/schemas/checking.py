"""What schemas say beyond msgspec: apply the rules that types carry, and say which fields of a value are wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import FieldInfo, force_setattr

from api.schemas.common import Rule, check_utc
from domain.errors import Invalid

T = TypeVar("T")
Check = Callable[[Any, str], Any]
"""Of a value and its path: returns the value to use, or raises Invalid that names the path."""

MAX_PROBLEMS = 100
"""Fields named in one answer."""

_EXACT = 2**53
"""Up to here a double says which integer was meant."""
_WORDS = {
    "int": "integer",
    "str": "string",
    "bool": "boolean",
    "float": "number",
    "datetime": "RFC 3339 time",
    "uuid": "UUID",
}


@cache
def check_for(kind: Any) -> Check | None:
    """Find the rules of a type, of its fields and of its items; None where there are none."""
    if get_origin(kind) is Annotated:
        bare, *marks = get_args(kind)
        return next((mark.check for mark in marks if isinstance(mark, Rule)), None) or check_for(bare)
    bare = bare_type(kind)
    if bare is datetime:
        return check_utc
    if bare is not kind:
        return check_for(bare)
    if get_origin(bare) is list:
        each = check_for(get_args(bare)[0])
        return each and _list_check(each)
    return _struct_check(bare) if is_struct(bare) else None


def bare_type(kind: Any) -> Any:
    """Take null and UNSET off a union with one other member."""
    if get_origin(kind) in {Union, UnionType}:
        others = [member for member in get_args(kind) if member not in {type(None), UnsetType}]
        if len(others) == 1:
            return others[0]
    return kind


def without_marks(kind: Any) -> Any:
    """Take annotations, null and UNSET off a type."""
    bare = bare_type(kind)
    return without_marks(get_args(bare)[0]) if get_origin(bare) is Annotated else bare


def is_struct(kind: Any) -> bool:
    """Whether a type is a msgspec Struct."""
    return isinstance(kind, type) and issubclass(kind, Struct)


def _list_check(each: Check) -> Check:
    def check(values: list[Any], path: str) -> list[Any]:
        problems: dict[str, str] = {}
        for index, value in enumerate(values):
            try:
                values[index] = each(value, f"{path}[{index}]")
            except Invalid as refusal:
                problems |= refusal.details
        return _unless(problems, values)

    return check


def _struct_check(kind: type[Struct]) -> Check | None:
    fields = [(field.name, field.encode_name, check_for(field.type)) for field in msgspec.structs.fields(kind)]
    plan = [(name, known_as, check) for name, known_as, check in fields if check]

    def check(struct: Struct, path: str) -> Struct:
        problems: dict[str, str] = {}
        for name, known_as, rule in plan:
            value = getattr(struct, name)
            if value is None or value is UNSET:
                continue
            try:
                checked = rule(value, f"{path}.{known_as}" if path else known_as)
            except Invalid as refusal:
                problems |= refusal.details
            else:
                if checked is not value:
                    force_setattr(struct, name, checked)
        return _unless(problems, struct)

    return check if plan else None


def _unless(problems: dict[str, str], value: T) -> T:
    if problems:
        raise Invalid(None, **dict(list(problems.items())[:MAX_PROBLEMS]))
    return value


def with_integers(value: Any, kind: Any) -> Any:
    """Write `5.0` as 5 where a type wants an integer: JSON Schema has one number 5, and some languages print it so."""
    bare = without_marks(kind)
    if bare is int and isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    if is_struct(bare) and isinstance(value, dict):
        kinds = {field.encode_name: field.type for field in msgspec.structs.fields(bare)}
        return {name: with_integers(item, kinds.get(name, Any)) for name, item in value.items()}
    if get_origin(bare) is list and isinstance(value, list):
        return [with_integers(item, get_args(bare)[0]) for item in value]
    return value


def problems_of(value: Any, kind: Any, path: str = "") -> dict[str, str]:
    """Say for each field of a value that its type refuses why, by path (`licenses[3].max_devices`)."""
    bare = without_marks(kind)
    found: dict[str, str] = {}
    if is_struct(bare) and isinstance(value, dict):
        for field in msgspec.structs.fields(bare):
            found |= _field_problems(value, field, f"{path}.{field.encode_name}" if path else field.encode_name)
    elif get_origin(bare) is list and isinstance(value, list):
        for index, item in enumerate(value):
            found |= problems_of(item, get_args(bare)[0], f"{path}[{index}]")
            if len(found) >= MAX_PROBLEMS:
                break
    return found or _own_problem(value, kind, path)


def _field_problems(value: dict[str, Any], field: FieldInfo, path: str) -> dict[str, str]:
    if field.encode_name in value:
        return problems_of(value[field.encode_name], field.type, path)
    return {path: "is required"} if field.required else {}


def _own_problem(value: Any, kind: Any, path: str) -> dict[str, str]:
    try:
        msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        return {f"{path}{where.removesuffix('`')}".lstrip(".") or "body": _for_people(message, kind)}
    return {}


def _for_people(message: str, kind: Any) -> str:
    """Put msgspec's message into the words of JSON, without the value that was sent."""
    bare = bare_type(kind)
    if message.startswith("Invalid enum value") and get_origin(bare) is Literal:
        return f"must be {' or '.join(map(str, get_args(bare)))}"
    if "matching regex" in message and (meant := _description(bare)) is not None:
        return f"must be {meant}"
    words = re.sub(r"`([^`]*)`", lambda match: " or ".join(_WORDS.get(w, w) for w in match[1].split(" | ")), message)
    return words[:1].lower() + words[1:]


def _description(kind: Any) -> str | None:
    marks = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    return next((mark.description for mark in marks if isinstance(mark, msgspec.Meta)), None)
