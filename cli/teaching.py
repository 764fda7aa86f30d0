"""Help that teaches: examples and the table of settings below what typer shows by itself."""

from __future__ import annotations

import shutil
import textwrap
from typing import Any

from typer.core import TyperCommand, TyperGroup

_WIDEST = 120


def examples(text: str) -> type[TyperCommand]:
    """Return the class of a command whose help ends with examples, one shell command a line."""

    class WithExamples(TyperCommand):
        def format_help(self, ctx: Any, formatter: Any) -> None:
            super().format_help(ctx, formatter)
            formatter.write(f"\nExamples:\n{_indented(text)}\n")

    return WithExamples


class WithSettings(TyperGroup):
    """The group at the top, whose help ends with all settings."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write typer's help, then the first steps and the settings."""
        super().format_help(ctx, formatter)
        formatter.write(f"\nFirst steps:\n{_indented(_FIRST_STEPS)}\n\n{settings_table()}\n")


class ServeHelp(TyperCommand):
    """The `serve` command, whose help ends with examples and all settings."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write typer's help, then examples and the settings."""
        super().format_help(ctx, formatter)
        formatter.write(f"\nExamples:\n{_indented(_SERVE_EXAMPLES)}\n\n{settings_table()}\n")


_FIRST_STEPS = """\
lizenzserver serve                        # all services, with a database of its own in ./var
lizenzserver demo                         # in a second terminal: something to look at
lizenzserver licenses list --limit 5
lizenzserver COMMAND --help               # what a command does, with examples
"""

_SERVE_EXAMPLES = """\
lizenzserver serve
AUTH_PORT=6001 DATA_DIR=/srv/licences lizenzserver serve
HOST=0.0.0.0 TLS_CERT=chain.pem TLS_KEY=key.pem lizenzserver serve --single-port
DATABASE_URL=postgresql://lizenzserver@db.example.com/licences lizenzserver serve --service license
"""


def settings_table() -> str:
    """Return all settings with their defaults, for the width of the terminal."""
    from infra.settings import SETTINGS

    width = max(60, min(shutil.get_terminal_size().columns, _WIDEST))
    name_width = max(len(setting.name) for setting in SETTINGS) + 2
    lines = [
        "Settings come from the environment and from a .env file in the current folder; [default].",
        "A secret (*) may also be given as a file: NAME_FILE=/path instead of NAME=value.",
        "",
    ]
    for setting in SETTINGS:
        name = setting.name + ("*" if setting.secret else "")
        meaning = setting.meaning + (f" [{setting.default}]" if setting.default else "")
        lines += textwrap.wrap(
            meaning,
            width,
            initial_indent=f"  {name.ljust(name_width)}",
            subsequent_indent=" " * (name_width + 2),
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def _indented(text: str) -> str:
    return textwrap.indent(textwrap.dedent(text).strip(), "  ")
