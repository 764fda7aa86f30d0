"""`rebuild`: making views anew from the logs and putting them in their place, against reading the same log alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bench.baselines import read_log
from bench.fan_out import INLINE, rebuild_seconds, store_usage
from bench.figures import Comparison, Goal, Result
from bench.lab import Lab
from commands.recorder import EVENTS_LOCK
from infra.migrations import migrate
from projections.usage_counts import USAGE_COUNTS
from tests.support.event_log import append, lives_of_licenses

VIEWS, READ_EVENTS = "views of licences", "reading and decoding the events"
COUNTS, READ_USAGE = "counts of usage", "reading and decoding the usage log"


def measure(lab: Lab) -> Result:
    """Compare each rebuild with reading its log."""
    rows = lab.sizes.log_rows
    database = lab.new_database()
    migrate(database)
    lab.say(f"writing {rows:,} rows into each log")
    append(database, lives_of_licenses(rows))
    store_usage(database, rows)
    with database.connect_owner() as owner:
        owner.execute("VACUUM (ANALYZE)")
    sides: dict[str, Callable[[], float]] = {
        VIEWS: partial(rebuild_seconds, database, INLINE, EVENTS_LOCK),
        READ_EVENTS: partial(read_log.seconds, database, "events"),
        COUNTS: partial(rebuild_seconds, database, USAGE_COUNTS),
        READ_USAGE: partial(read_log.seconds, database, "usage"),
    }
    found = lab.alternate(sides)
    result = Result("rebuild")
    result.comparisons += [
        Comparison(
            name=f"{ours}, {rows:,} rows",
            unit="s",
            ours=tuple(found[ours]),
            baseline=base,
            base=tuple(found[base]),
            goal=Goal(3, is_limit=True),
        )
        for ours, base in ((VIEWS, READ_EVENTS), (COUNTS, READ_USAGE))
    ]
    return result
