"""Results as a table for people and as JSON for programs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.figures import Comparison, Result, Spread, spread

HEADINGS = ("what", "ours", "baseline", "", "ratio", "asked", "")


def table(results: Iterable[Result]) -> str:
    """Return all comparisons as text, each figure as its median and (lowest .. highest) of the rounds."""
    rows: list[Sequence[str]] = [HEADINGS]
    notes: list[str] = []
    for result in results:
        rows += [_row(result.measure, one) for one in result.comparisons]
        notes += [f"{result.measure}: {note}" for note in result.notes]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, "", *notes])


def _row(measure: str, one: Comparison) -> Sequence[str]:
    return (
        f"{measure}: {one.name}",
        f"{shown(spread(one.ours))} {one.unit}",
        one.baseline,
        shown(spread(one.base)) if one.base else "",
        shown(spread(one.ratios)) if one.base else "",
        str(one.goal) if one.goal else "",
        one.verdict,
    )


def shown(values: Spread) -> str:
    """Return a spread as people read it."""
    return f"{number(values.median)} ({number(values.low)} .. {number(values.high)})"


def number(value: float) -> str:
    """Return a number with three significant digits, large ones whole."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"  # noqa: PLR2004


def as_json(results: Iterable[Result], options: dict[str, Any]) -> dict[str, Any]:
    """Return everything, each round's figures included."""
    return {"machine": machine(), "options": options, "results": [_result(result) for result in results]}


def _result(result: Result) -> dict[str, Any]:
    return {
        "measure": result.measure,
        "comparisons": [_comparison(one) for one in result.comparisons],
        "curves": [
            {
                "title": curve.title,
                "x": curve.x_label,
                "y": curve.y_label,
                "lines": {
                    name: [{"x": point.x, **point.y._asdict()} for point in points]
                    for name, points in curve.lines.items()
                },
            }
            for curve in result.curves
        ],
        "notes": result.notes,
    }


def _comparison(one: Comparison) -> dict[str, Any]:
    return {
        "name": one.name,
        "unit": one.unit,
        "ours": one.ours,
        "baseline": one.baseline or None,
        "base": one.base,
        "ratios": one.ratios,
        "judged": one.judged,
        "goal": str(one.goal) if one.goal else None,
        "verdict": one.verdict,
    }


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    return {
        "cpus": os.cpu_count(),
        "cpu": _cpu_model(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": os.getloadavg(),
    }


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
