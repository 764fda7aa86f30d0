"""How commands speak: data on stdout, for people or as JSON; messages and progress on stderr.

Colours, boxes and moving bars are for terminals only.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from typing import Annotated, Any, TypeAlias

import typer

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def say(message: str) -> None:
    """Tell the person something that is not the command's data."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def fail(message: str) -> None:
    """Say in one line why the command failed."""
    say(f"error: {message}")


def write_json(value: Any) -> None:
    """Print data for programs: JSON with two blanks of indentation; times in RFC 3339."""
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def shown(value: object) -> str:
    """Return a value as a table's cell shows it; control characters are escaped, since they come from outside."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    if isinstance(value, (list, tuple)):
        return ", ".join(shown(part) for part in value) or "-"
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", str(value))


def write_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows in aligned columns, whole lines when stdout is no terminal."""
    cells = [[shown(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
        _write_plain([list(columns), *cells])
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD, header_style="bold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _write_plain(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def write_fields(fields: dict[str, object]) -> None:
    """Print one thing, a field a line."""
    width = max(map(len, fields))
    for name, value in fields.items():
        sys.stdout.write(f"{name.ljust(width)}  {shown(value)}\n")


def forget_stdout() -> None:
    """Let what is still to be written go nowhere, or the interpreter's end would complain."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far long work has come, on a terminal; give the function that moves it on by so many."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)


@contextmanager
def working(description: str) -> Iterator[None]:
    """Show that something of unknown length goes on, on a terminal."""
    if not sys.stderr.isatty():
        with nullcontext():
            yield
        return
    from rich.console import Console

    with Console(stderr=True).status(description):
        yield
