"""Growth curves as SVG, drawn by hand: sizes on a logarithmic scale, figures from zero, spreads as bars."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import count
from math import ceil, log10

from bench.figures import Curve, Point
from bench.report import number

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 40, 50
COLOURS = ("#1f6f8b", "#c8553d", "#588157", "#7b4b94")


def svg(curves: Sequence[Curve]) -> str:
    """Return one picture with all curves, one below the other."""
    height = max(1, len(curves)) * HEIGHT
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        ' font-family="sans-serif" font-size="12">'
    )
    background = f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
    charts = (f'<g transform="translate(0 {at * HEIGHT})">\n{_chart(curve)}\n</g>' for at, curve in enumerate(curves))
    return "\n".join([head, background, *charts, "</svg>\n"])


class _Scale:
    """Where a point of a curve is in its picture."""

    def __init__(self, curve: Curve) -> None:
        points = [point for line in curve.lines.values() for point in line]
        self.first = log10(min(point.x for point in points))
        self.last = max(log10(max(point.x for point in points)), self.first + 1)
        self.step = _round_step(max(point.y.high for point in points))
        self.top = self.step * ceil(max(point.y.high for point in points) / self.step)

    def x(self, value: float) -> float:
        share = (log10(value) - self.first) / (self.last - self.first)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - value / self.top * (HEIGHT - TOP - BOTTOM)


def _round_step(highest: float) -> float:
    """Return a distance between grid lines, 1, 2 or 5 times a power of ten, of which about five fit."""
    rough = highest / 5 or 1.0
    power: float = 10 ** int(log10(rough) if rough >= 1 else log10(rough) - 1)
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)


def _chart(curve: Curve) -> str:
    scale = _Scale(curve)
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts = [
        _text(middle, 20, curve.title, size=14),
        _text(middle, HEIGHT - 10, curve.x_label),
        f'<g transform="rotate(-90 16 {HEIGHT / 2})">{_text(16, HEIGHT / 2, curve.y_label)}</g>',
    ]
    for at in count():
        value = at * scale.step
        if value > scale.top * 1.001:
            break
        parts.append(_line(LEFT, scale.y(value), WIDTH - RIGHT, scale.y(value), "#ddd"))
        parts.append(_text(LEFT - 6, scale.y(value) + 4, number(value), anchor="end"))
    sizes = sorted({point.x for line in curve.lines.values() for point in line})
    parts += [_text(scale.x(x), HEIGHT - BOTTOM + 18, f"{x:,.0f}") for x in sizes]
    for at, (name, points) in enumerate(curve.lines.items()):
        parts += _drawn(scale, points, name, COLOURS[at % len(COLOURS)], TOP + 16 + at * 18)
    return "\n".join(parts)


def _drawn(scale: _Scale, points: Sequence[Point], name: str, colour: str, legend: float) -> list[str]:
    path = " ".join(f"{scale.x(point.x):.1f},{scale.y(point.y.median):.1f}" for point in points)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    for point in points:
        x = scale.x(point.x)
        parts.append(_line(x, scale.y(point.y.low), x, scale.y(point.y.high), colour))
        parts.append(f'<circle cx="{x:.1f}" cy="{scale.y(point.y.median):.1f}" r="3" fill="{colour}"/>')
    right = WIDTH - RIGHT + 12
    parts.append(_line(right, legend - 4, right + 16, legend - 4, colour))
    parts.append(_text(right + 22, legend, name, anchor="start"))
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, content: str, *, anchor: str = "middle", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(content)}</text>'
