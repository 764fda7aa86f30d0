"""`start`: from the start of the process to the first 200 of /health/ready, with very many licences stored."""

from __future__ import annotations

from functools import partial

from bench.figures import Comparison, Goal, Result
from bench.lab import Lab
from infra.postgres import Database

API, ALL_IN_ONE, FEW = "api", "all in one", "few licences"


def measure(lab: Lab) -> Result:
    """Start again and again on a database that runs and is migrated, with keys that are there."""
    many, few = lab.filled_database(lab.sizes.many), lab.filled_database(lab.sizes.licences)
    for database in (many, few):
        # The first start writes down which keys this database belongs to.
        _seconds(lab, database)
    found = lab.alternate(
        {
            API: partial(_seconds, lab, many),
            ALL_IN_ONE: partial(_seconds, lab, many, workers=True),
            FEW: partial(_seconds, lab, few),
        }
    )
    result = Result("start")
    result.comparisons += [
        Comparison(
            name=f"ready, {lab.sizes.many:,} licences", unit="s", ours=tuple(found[API]), goal=Goal(3, is_limit=True)
        ),
        Comparison(name="ready, all in one process", unit="s", ours=tuple(found[ALL_IN_ONE])),
        Comparison(name=f"ready, {lab.sizes.licences:,} licences", unit="s", ours=tuple(found[FEW])),
    ]
    return result


def _seconds(lab: Lab, database: Database, *, workers: bool = False) -> float:
    with lab.api(database, workers=workers, ready="/health/ready") as server:
        return server.start_seconds
