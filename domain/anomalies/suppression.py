"""An alert is given once a subject and kind for a week, unless it becomes worse; a dismissed one, only if worse."""

from __future__ import annotations

from domain.anomalies.state import Alert


def is_quiet(alert: Alert | None, rank: int, now: int, quiet_seconds: int) -> bool:
    """Tell whether nothing is to be said of a finding, given the last alert of its subject and kind."""
    if alert is None or rank > alert.rank:
        return False
    return alert.is_dismissed or now - alert.time < quiet_seconds


def is_dismissed(alert: Alert | None, rank: int) -> bool:
    """Tell whether a person said of a finding that it is nothing: it is no risk either, unless it is worse now."""
    return alert is not None and alert.is_dismissed and rank <= alert.rank


def is_worse(alert: Alert | None, rank: int) -> bool:
    """Tell whether the last alert was worse than a rank."""
    return alert is not None and alert.rank > rank
