"""Licences as CSV: the columns, and how a cell is written and read.

UTF-8 (a byte order mark is accepted), commas, RFC 4180 quoting, a header line. Cells that a spreadsheet would take
for a formula get a leading apostrophe on the way out, which is taken off on the way in.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from api.body import check_text, to_struct
from api.issuing import Wanted
from api.schemas.admin import Email, LicenseAnswer, MaxDevices
from api.schemas.common import CONTROL, Features, Identifier, JsonObject16K, Name, Timestamp, rfc3339
from cli.errors import Failure
from domain.errors import Invalid
from domain.identifiers import normalize_license_key

COLUMNS = (
    "customer_id",
    "email",
    "product",
    "edition",
    "max_devices",
    "expires_at",
    "features",
    "is_test",
    "floating",
    "metadata",
    "license_key",
    "license_id",
    "created_at",
    "is_active",
    "current_devices",
)
"""As exported. An import needs customer_id or email; license_id, created_at and current_devices it ignores."""

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_ESCAPED_FORMULA = re.compile(r"'+[=+\-@\t\r]")
_CONTROLS = re.compile(f"[{CONTROL}]")
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class WrongCell(Exception):
    """A cell that can't be what its column holds: (line of the file, column, why)."""

    def __init__(self, line: int, column: str, why: str) -> None:
        super().__init__(f"line {line}, column {column}: {why}")


class _Row(msgspec.Struct, kw_only=True):
    """A row's values, under the rules that the HTTP interface has for them."""

    customer_id: Identifier | None = None
    email: Email | None = None
    product: Name | None = None
    edition: Name | None = None
    max_devices: MaxDevices = 1
    expires_at: Timestamp | None = None
    features: Features = msgspec.field(default_factory=list)
    is_test: bool = False
    floating: bool = False
    metadata: JsonObject16K = msgspec.field(default_factory=dict)
    license_key: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class NumberedRow:
    """A licence that a file asks for, and the line where it begins there (the header is line 1)."""

    line: int
    wanted: Wanted


def write_cell(text: str) -> str:
    """Escape what a spreadsheet would run as a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def read_cell(text: str) -> str:
    """Undo `write_cell`."""
    return text[1:] if _ESCAPED_FORMULA.match(text) else text


def csv_row(license: LicenseAnswer) -> list[str]:
    """Return a licence's cells, in the order of COLUMNS."""
    fields = msgspec.structs.asdict(license)
    fields["features"] = ";".join(re.sub(r"([\\;])", r"\\\1", feature) for feature in license.features)
    fields["metadata"] = json.dumps(license.metadata, ensure_ascii=False) if license.metadata else ""
    return [write_cell(_text(fields[name])) for name in COLUMNS]


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return rfc3339(value) if isinstance(value, datetime) else str(value)


def read_csv(text: str) -> Iterator[NumberedRow | WrongCell]:
    """Read every row; give it, or what is wrong with its first wrong cell. Empty lines are skipped.

    Raises Failure for a header that is not ours and for text that is no CSV.
    """
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        _check_header(header)
        begins = reader.line_num + 1
        for cells in reader:
            if any(cells):
                yield _read_row(begins, header, cells)
            begins = reader.line_num + 1
    except csv.Error as error:
        raise Failure(f"line {reader.line_num}: this is no CSV ({error})") from None


def _check_header(header: list[str]) -> None:
    for name in header:
        if name not in COLUMNS:
            raise Failure(f"line 1: {name[:64]!r} is no column; there are: {', '.join(COLUMNS)}")
        if header.count(name) > 1:
            raise Failure(f"line 1: the column {name} comes twice")
    if not {"customer_id", "email"} & set(header):
        raise Failure("line 1: a column customer_id or email is needed")


def _read_row(line: int, header: list[str], cells: list[str]) -> NumberedRow | WrongCell:
    if len(cells) != len(header):
        return WrongCell(line, header[-1], f"the row has {len(cells)} cells, the header {len(header)}")
    values: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=True):
        text = read_cell(cell)
        if not text.strip() or name not in _PARSERS:
            continue
        try:
            values[name] = _PARSERS[name](check_text(text, name))
        except Invalid as refused:
            return WrongCell(line, name, str(refused.details[name]))
        except ValueError as wrong:
            return WrongCell(line, name, str(wrong))
    return _checked(line, values)


def _checked(line: int, values: dict[str, Any]) -> NumberedRow | WrongCell:
    if "customer_id" not in values and "email" not in values:
        return WrongCell(line, "customer_id", "a customer_id or an email is needed")
    try:
        row = to_struct(values, _Row)
    except Invalid as refused:
        path, why = next(iter(refused.details.items()))
        return WrongCell(line, re.split(r"[.\[]", path, maxsplit=1)[0], str(why))
    fields = msgspec.structs.asdict(row)
    return NumberedRow(line, Wanted(**{**fields, "features": tuple(row.features)}))


def _as_it_is(text: str) -> str:
    return text


def _number(text: str) -> int:
    if not re.fullmatch(r"\s*[0-9]{1,9}\s*", text):
        raise ValueError("must be a whole number")
    return int(text)


def _truth(text: str) -> bool:
    if text.strip().lower() not in _WORDS:
        raise ValueError("must be true or false")
    return _WORDS[text.strip().lower()]


def _moment(text: str) -> datetime:
    """Read an RFC 3339 time, or a date, which stands for the end of that day in UTC."""
    given = text.strip()
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", given):
            return datetime.combine(datetime.fromisoformat(given), time(23, 59, 59), UTC)
        return msgspec.convert(given, datetime)
    except (ValueError, msgspec.ValidationError):
        raise ValueError("must be a time such as 2027-01-31T12:00:00Z, or a date such as 2027-01-31") from None


def _features(text: str) -> list[str]:
    r"""Split at semicolons; a backslash before one, or before another backslash, makes it part of a name."""
    parts = re.findall(r"(?:\\.|[^;\\])+", text)
    return [feature for part in parts if (feature := re.sub(r"\\(.)", r"\1", part).strip())]


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError) as wrong:
        raise ValueError(f"must be a JSON object ({wrong})") from None
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object such as {}")  # noqa: TRY004 - a ValueError becomes the cell's fault
    return value


def license_key(text: str) -> str:
    """Return a key that is brought along, without blanks at its ends. Raises ValueError where it can't be one."""
    key = text.strip()
    if not normalize_license_key(key):
        raise ValueError("must not be empty")
    if _CONTROLS.search(key):
        raise ValueError("must not hold control characters")
    return key


_PARSERS: dict[str, Callable[[str], Any]] = {
    "customer_id": _as_it_is,
    "email": str.strip,
    "product": _as_it_is,
    "edition": _as_it_is,
    "max_devices": _number,
    "expires_at": _moment,
    "features": _features,
    "is_test": _truth,
    "floating": _truth,
    "metadata": _json_object,
    "license_key": license_key,
    "is_active": _truth,
}
"""How a cell's text becomes a value; columns that are not here are ignored."""
