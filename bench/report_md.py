"""`python -m bench.report_md FILE.json`: the figures of `--json` as a table in Markdown, for docs/performance.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.figures import spread
from bench.report import shown

HEADINGS = ("what", "ours", "baseline", "ratio", "asked", "")


def main() -> int:
    """Print the table; return the exit code."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program's name, and the file's
        print("usage: python -m bench.report_md FILE.json", file=sys.stderr)
        return 2
    print(markdown(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
    return 0


def markdown(content: dict[str, Any]) -> str:
    """Return what was measured as a table, below it what is to be known about it, and before it the machine."""
    machine, options = content["machine"], content["options"]
    head = (
        f"Measured on {machine['cpus']} cores of {machine['cpu']}, {machine['system']}, Python {machine['python']};"
        f" {options['rounds']} rounds of {options['seconds']} seconds;"
        f" load average {options['load_average_before']:.1f} before."
    )
    rows = [HEADINGS, tuple("---" for _ in HEADINGS)]
    rows += [_row(result["measure"], one) for result in content["results"] for one in result["comparisons"]]
    notes = [f"- {result['measure']}: {note}" for result in content["results"] for note in result["notes"]]
    return "\n".join([head, "", *_lines(rows), *(["", *notes] if notes else [])])


def _row(measure: str, one: dict[str, Any]) -> tuple[str, ...]:
    base = f"{one['baseline']}: {shown(spread(one['base']))}" if one["base"] else ""
    return (
        f"{measure}: {one['name']}",
        f"{shown(spread(one['ours']))} {one['unit']}",
        base,
        shown(spread(one["ratios"])) if one["ratios"] else "",
        one["goal"] or "",
        one["verdict"].replace("-", ""),
    )


def _lines(rows: Iterable[tuple[str, ...]]) -> list[str]:
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


if __name__ == "__main__":
    sys.exit(main())
