"""An alert is given once a subject and kind for a week, unless it becomes worse; a dismissed one, only if worse."""

from __future__ import annotations

from domain.anomalies.state import Alert


def is_quiet(alert: Alert | None, rank: int, now: int, quiet_seconds: int) -> bool:
    """Tell whether nothing is to be said of a finding, given the last alert of its subject and kind."""
    if alert is None or rank > alert.rank:
        return False
    return alert.is_dismissed or now - alert.time < quiet_seconds
