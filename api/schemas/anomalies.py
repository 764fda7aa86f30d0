"""Anomalies and risk, for analysts and for administrators."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from api.schemas.admin import AsOf, Pagination
from api.schemas.common import BLANK, Rule, Timestamp, invalid
from domain.anomalies.findings import Kind, Severity
from domain.anomalies.risk import Band
from domain.anomaly import Status

Points = Annotated[float, Meta(ge=0, le=100)]


def check_reason(value: str, field: str) -> str:
    """Return a text as it is; one of blanks alone says nothing, and is refused."""
    if not value.strip():
        raise invalid(field, "must not be blank")
    return value


Reason = Annotated[
    str,
    Meta(min_length=1, max_length=1000, extra_json_schema={"pattern": f"[^{BLANK}]"}),
    Rule(check_reason),
]
"""Why somebody says so of an anomaly."""


class LicenseAnomaliesQuery(msgspec.Struct, kw_only=True):
    """Filters of a licence's anomalies: `min_severity` and worse, found at `since` or later and before `until`."""

    kind: Kind | None = None
    min_severity: Severity | None = None
    status: Status | None = None
    since: Timestamp | None = None
    until: Timestamp | None = None
    page: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    per_page: Annotated[int, Meta(ge=1, le=100)] = 50
    cursor: Annotated[str, Meta(min_length=1, max_length=256)] | None = None


class AnomaliesQuery(LicenseAnomaliesQuery, kw_only=True):
    """Filters of the list of all anomalies."""

    license_id: UUID | None = None


class AnomalyFields(msgspec.Struct, kw_only=True):
    """Something that a person should look at. It is about a licence, or about an address, without `license_id`.

    `evidence` holds ids of events and of messages on the queue, the newest first. `found_at` is when what completed it
    occurred.
    """

    anomaly_id: UUID
    kind: Kind
    severity: Severity
    status: Status
    license_id: UUID | None
    explanation: str
    evidence: tuple[str, ...]
    found_at: Timestamp
    resolved_at: Timestamp | None
    resolved_by: str | None


class AnomalyAnswer(AnomalyFields, kw_only=True):
    """An anomaly as it was recorded."""

    recorded_at: Timestamp


class AnomalyList(msgspec.Struct, kw_only=True):
    """A page of anomalies, the newest first."""

    anomalies: list[AnomalyAnswer]
    pagination: Pagination


class AdminAnomalyAnswer(AnomalyAnswer, kw_only=True):
    """An anomaly, with what only administrators see. Both are null once the key that sealed them is gone."""

    address: str | None
    reason: str | None


class AdminAnomalyList(msgspec.Struct, kw_only=True):
    """A page of anomalies, the newest first."""

    anomalies: list[AdminAnomalyAnswer]
    pagination: Pagination


class AcknowledgeRequest(msgspec.Struct, kw_only=True):
    """Says that an anomaly is taken care of, and perhaps how."""

    reason: Reason | None = None


class DismissRequest(msgspec.Struct, kw_only=True):
    """Says that an anomaly is nothing, and why."""

    reason: Reason


class DetectedAnomaly(AnomalyFields, kw_only=True):
    """An anomaly of a licence, recorded or about to be: then it has no `recorded_at`, but its id already."""

    recorded: bool
    recorded_at: Timestamp | None


class Risk(msgspec.Struct, kw_only=True):
    """A licence's risk, 0 to 100."""

    score: Points
    band: Band
    explanation: str


class DetectAnswer(msgspec.Struct, kw_only=True):
    """What is wrong with a licence as of now: what is open or taken care of, and was found in the last 30 days.

    `observations` counts the rows of both logs that were looked at beyond what detection had done already; `complete`
    is false where there were too many for one answer.
    """

    license_id: UUID
    anomalies: list[DetectedAnomaly]
    risk: Risk
    observations: int
    complete: bool
    as_of: AsOf


class RiskFactor(msgspec.Struct, kw_only=True):
    """One reason for the risk: its points now, and the last anomaly of its kind with its evidence."""

    name: Kind
    points: Points
    last_seen: Timestamp
    explanation: str
    anomaly_id: UUID | None
    evidence: tuple[str, ...]


class RiskScoreAnswer(msgspec.Struct, kw_only=True):
    """A licence's risk as of now; `factors` begin with the heaviest. Points halve in `half_life_days`."""

    license_id: UUID
    risk_score: Points
    risk_level: Band
    explanation: str
    factors: list[RiskFactor]
    half_life_days: float
    as_of: AsOf
