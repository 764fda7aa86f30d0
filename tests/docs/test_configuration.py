"""The documented settings are the program's, no more, no fewer, and word for word."""

from __future__ import annotations

from pathlib import Path

from infra.settings import SETTINGS, Setting

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def row_of(setting: Setting) -> str:
    default = f"`{setting.default}`" if setting.default else ""
    secret = f"yes, or `{setting.name}_FILE`" if setting.secret else ""
    return f"| `{setting.name}` | {default} | {setting.meaning} | {secret} |"


def table() -> str:
    return "\n".join(["| Setting | Default | Meaning | Secret |", "|---|---|---|---|", *map(row_of, SETTINGS)])


def test_the_documented_settings_are_the_programs() -> None:
    _, _, after = PAGE.read_text("utf-8").partition("<!-- settings:")
    documented = [line for line in after.split("\n\n")[1].splitlines() if line]
    assert documented == table().splitlines()
