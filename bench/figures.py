"""What a measure found, and how it compares: medians, spreads, ratios round by round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple


class Spread(NamedTuple):
    """The median of some rounds, and the lowest and highest of them."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Summarise the rounds, of which there is at least one."""
    return Spread(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Goal:
    """What is asked: at least (or, where `is_limit`, at most) a value."""

    value: float
    is_limit: bool = False

    def met(self, value: float) -> bool:
        """Tell whether a value reaches the goal."""
        return value <= self.value if self.is_limit else value >= self.value

    def __str__(self) -> str:
        return f"{'≤' if self.is_limit else '≥'} {self.value:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One row of the report: our figure of each round beside the baseline's of the same round.

    Without a baseline the goal is about our figure itself. Without a goal it is only reported.
    """

    name: str
    unit: str
    ours: tuple[float, ...]
    baseline: str = ""
    base: tuple[float, ...] = ()
    goal: Goal | None = None

    @property
    def ratios(self) -> tuple[float, ...]:
        """Our figure as a multiple of the baseline's, for each round; none without a baseline."""
        return tuple(ours / base for ours, base in zip(self.ours, self.base, strict=True)) if self.base else ()

    @property
    def judged(self) -> float:
        """What the goal is about: the median ratio, or our median where there is no baseline."""
        return median(self.ratios or self.ours)

    @property
    def verdict(self) -> str:
        """`pass`, or by how much it falls short; `-` where nothing is asked."""
        if self.goal is None:
            return "-"
        if self.goal.met(self.judged):
            return "pass"
        return f"short: {abs(self.judged / self.goal.value - 1):.0%}"


class Point(NamedTuple):
    """A point of a growth curve: at size `x` the rounds had this spread."""

    x: float
    y: Spread


@dataclass(frozen=True, slots=True)
class Curve:
    """How a figure grows with the size of something; one line for each name."""

    title: str
    x_label: str
    y_label: str
    lines: dict[str, tuple[Point, ...]]


@dataclass(slots=True)
class Result:
    """What a measure gives: rows of the report, perhaps curves, and what is to be known about them."""

    measure: str
    comparisons: list[Comparison] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
