"""`growth-licences`: validate among few licences and among very many.

Nine requests of ten are for the same thousand devices, which are in memory after warming up; one of ten is for any
licence, so that the more there are, the more often one is read. Beside that, drawn but not asked for: any licence each
time, which among many is nothing but reading.
"""

from __future__ import annotations

from contextlib import ExitStack

from bench import bodies
from bench.figures import Comparison, Curve, Goal, Point, Result, spread
from bench.lab import Lab
from bench.sides import Served, Side, latencies, load_note, measured

CONNECTIONS = 32
HOT = 1_000
MIXED, ANY = "9 of 10 hot", "any licence"


def measure(lab: Lab) -> Result:
    """Compare the p50 at each number of licences with that at the lowest."""
    sides: dict[str, Side] = {}
    with ExitStack() as stack:
        for licences in lab.sizes.growth:
            server = stack.enter_context(lab.api(lab.filled_database(licences)))
            for kind, hot in ((MIXED, HOT), (ANY, 0)):
                sides[_name(kind, licences)] = Side(server, bodies.any_validation(lab, licences, hot), CONNECTIONS)
        served = measured(lab, sides)
    result = Result("growth-licences")
    least, most = lab.sizes.growth[0], lab.sizes.growth[-1]
    for kind, goal in ((MIXED, Goal(1.25, is_limit=True)), (ANY, None)):
        result.comparisons.append(
            Comparison(
                name=f"validate p50 among {most:,} licences, {kind}",
                unit="ms",
                ours=latencies(served[_name(kind, most)], "p50"),
                baseline=f"among {least:,}",
                base=latencies(served[_name(kind, least)], "p50"),
                goal=goal,
            )
        )
    result.curves.append(_curve(lab, served))
    result.notes.append(load_note(served))
    return result


def _curve(lab: Lab, served: dict[str, list[Served]]) -> Curve:
    lines = {
        kind: tuple(Point(size, spread(latencies(served[_name(kind, size)], "p50"))) for size in lab.sizes.growth)
        for kind in (MIXED, ANY)
    }
    return Curve("validate as licences become more", "licences", "p50, ms", lines)


def _name(kind: str, licences: int) -> str:
    return f"{kind}, {licences:,}"
