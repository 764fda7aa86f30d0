"""`anomalies`: the worker that looks for abuse, over a stored history and with rows as they come."""

from __future__ import annotations

import asyncio

from bench import anomalies
from bench.figures import Comparison, Goal, Result
from bench.lab import Lab
from infra.migrations import migrate
from tests.support.fleet_logs import fleet_lines, rows_of

DAYS = 5
QUICK_LICENSES = 40


def measure(lab: Lab) -> Result:
    """Measure once: what comes live takes its time, since the worker waits for late rows."""
    licenses = anomalies.LICENSES if lab.sizes.workers else QUICK_LICENSES
    database = lab.new_database()
    migrate(database)
    lab.say(f"making the history of {licenses} licences")
    lines = fleet_lines(1, licenses, DAYS)
    history = rows_of(database, lab.folder / "service", lines)
    history.put(database)
    lab.say(f"{len(lines):,} rows are stored")
    caught_up = asyncio.run(anomalies.catch_up(database, lab.data_dir, len(lines)))
    result = Result("anomalies")
    result.comparisons += [
        Comparison(
            name="stored history",
            unit="rows/s",
            ours=(caught_up.rows_a_second,),
            goal=Goal(anomalies.ROWS_PER_SECOND),
        ),
        Comparison(
            name="state of a licence, mean",
            unit="bytes",
            ours=(caught_up.mean_bytes,),
            goal=Goal(4096, is_limit=True),
        ),
    ]
    result.notes.append(
        f"{len(lines):,} rows of {caught_up.states} licences, {caught_up.cores:.0%} of a core;"
        f" {caught_up.anomalies} anomalies"
    )
    if lab.sizes.workers:
        _live(result, asyncio.run(anomalies.live(database, lab.data_dir, history.uses, history.use_lines)))
    return result


def _live(result: Result, live: anomalies.Live) -> None:
    result.comparisons.append(
        Comparison(name=f"behind {anomalies.ROWS_PER_SECOND:,} rows/s, p95", unit="s", ours=(live.lag_p95,))
    )
    result.notes.append(
        f"live: {live.rows_a_second:,.0f} rows a second; behind by {live.lag_median:.1f} s (median),"
        f" {live.lag_most:.1f} s (max), beyond the wait for late rows; {live.cores:.0%} of a core;"
        f" {live.wal_mb_a_second:.1f} MB of WAL a second"
    )
