"""What detectors say: a finding, its kind and how bad it is."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

Kind = Literal[
    "key_guessing",
    "leaked_key",
    "credential_sharing",
    "impossible_travel",
    "cloned_hardware_id",
    "reseller_rotation",
    "hammering",
    "clock_rollback",
]
Severity = Literal["low", "medium", "high", "critical"]

KINDS: tuple[Kind, ...] = get_args(Kind)
"""Kinds in the order of their numbers in stored state: only ever add at the end."""

SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""From the least to the worst; the rank of a severity is its index here, and rank -1 is nothing found."""

NOTHING = -1
LOW, MEDIUM, HIGH, CRITICAL = range(4)
MAX_EVIDENCE = 10


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a person should look at.

    `time` is that of the observation that completed it, in seconds since 1970. `license_id` is None for key guessing,
    which is about `address`. `explanation` is one sentence. `evidence` holds ids of observations behind it, the last
    ones first, at most 10.
    """

    time: float
    kind: Kind
    severity: Severity
    license_id: str | None
    address: str | None
    explanation: str
    evidence: tuple[str, ...]


def grade(value: float, alarm: float) -> int:
    """Return the rank of a severity: evidence that just suffices is medium, twice as much high, four times critical."""
    if value < alarm:
        return NOTHING
    if value < 2 * alarm:
        return MEDIUM
    return HIGH if value < 4 * alarm else CRITICAL
