"""Anomalies and risk for analysts. An API key that is bound to a product sees that product's licences only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from api import detecting
from api.call import Call
from api.detecting import Detected
from api.endpoint import Auth, Endpoint
from api.paging import read_page
from api.presentation import anomaly_fields
from api.responses import Answer, answer
from api.routes.admin_licenses import license_id_of
from api.routes.analytics import product_of, reading
from api.schemas.admin import AsOf, Pagination
from api.schemas.anomalies import (
    AnomaliesQuery,
    AnomalyAnswer,
    AnomalyList,
    DetectAnswer,
    DetectedAnomaly,
    LicenseAnomaliesQuery,
    Risk,
    RiskFactor,
    RiskScoreAnswer,
)
from api.schemas.auth import NoBody
from domain.anomalies.findings import SEVERITIES, Finding
from domain.errors import LicenseNotFound
from projections import anomalies, licenses
from projections.anomalies import AnomalyFilter, AnomalyRow

SHOWN_DAYS = 30
DAY_SECONDS = 86_400


async def detect(call: Call) -> Answer:
    """Look at a licence now, without waiting for the worker."""
    license_id = license_id_of(call)
    done = await detecting.detect(call.services, call.now, license_id, product_of(call))
    oldest = call.now - timedelta(days=SHOWN_DAYS)
    recorded = [one for one in done.recorded if one.status != "dismissed" and one.found_at >= oldest]
    shown = DetectAnswer(
        license_id=license_id,
        anomalies=[*(_about_to_be(id, finding) for id, finding in done.found), *map(_recorded, recorded)],
        risk=Risk(score=done.risk.score, band=done.risk.band, explanation=done.risk.explanation),
        observations=done.observations,
        complete=done.complete,
        as_of=AsOf(**msgspec.structs.asdict(done.as_of)),
    )
    return answer(200, shown)


async def risk_score(call: Call) -> Answer:
    """Say how likely it is that a licence is abused, and why."""
    license_id = license_id_of(call)
    done = await detecting.detect(call.services, call.now, license_id, product_of(call))
    proofs = _last_of_each_kind(done)
    factors = []
    for factor in done.risk.factors:
        anomaly_id, evidence, explanation = proofs.get(factor.name, (None, (), factor.explanation))
        factors.append(
            RiskFactor(
                name=factor.name,
                points=factor.points,
                last_seen=_time(factor.last_seen),
                explanation=explanation,
                anomaly_id=anomaly_id,
                evidence=evidence,
            )
        )
    shown = RiskScoreAnswer(
        license_id=license_id,
        risk_score=done.risk.score,
        risk_level=done.risk.band,
        explanation=done.risk.explanation,
        factors=factors,
        half_life_days=done.half_life_seconds / DAY_SECONDS,
        as_of=AsOf(**msgspec.structs.asdict(done.as_of)),
    )
    return answer(200, shown)


async def list_anomalies(call: Call) -> Answer:
    """List the anomalies of the fleet, the newest first."""
    query: AnomaliesQuery = call.query
    async with reading(call) as connection:
        rows, pagination = await listed(call, connection, wanted(query, query.license_id, product_of(call)))
    return _list_of(rows, pagination)


async def list_of_license(call: Call) -> Answer:
    """List a licence's anomalies, the newest first."""
    query: LicenseAnomaliesQuery = call.query
    license_id, product = license_id_of(call), product_of(call)
    async with reading(call) as connection:
        row = await licenses.by_id(connection, license_id)
        if row is None or product not in {None, row.product}:
            raise LicenseNotFound("License not found")
        rows, pagination = await listed(call, connection, wanted(query, license_id, product))
    return _list_of(rows, pagination)


def wanted(query: LicenseAnomaliesQuery, license_id: UUID | None, product: str | None = None) -> AnomalyFilter:
    """Return what a list shows."""
    least = query.min_severity
    return AnomalyFilter(
        license_id=license_id,
        product=product,
        kind=query.kind,
        severities=None if least is None else SEVERITIES[SEVERITIES.index(least) :],
        status=query.status,
        since=query.since,
        until=query.until,
    )


async def listed(call: Call, connection: Any, which: AnomalyFilter) -> tuple[list[AnomalyRow], Pagination]:
    """Return the page that the request names."""
    return await read_page(call.services.keyring, connection, anomalies, which, call.query)


def _list_of(rows: list[AnomalyRow], pagination: Pagination) -> Answer:
    shown = [AnomalyAnswer(**anomaly_fields(row), recorded_at=row.recorded_at) for row in rows]
    return answer(200, AnomalyList(anomalies=shown, pagination=pagination))


def _recorded(row: AnomalyRow) -> DetectedAnomaly:
    return DetectedAnomaly(**anomaly_fields(row), recorded=True, recorded_at=row.recorded_at)


def _about_to_be(anomaly_id: UUID, finding: Finding) -> DetectedAnomaly:
    return DetectedAnomaly(
        anomaly_id=anomaly_id,
        kind=finding.kind,
        severity=finding.severity,
        status="open",
        license_id=None if finding.license_id is None else UUID(finding.license_id),
        explanation=finding.explanation,
        evidence=finding.evidence,
        found_at=_time(finding.time),
        resolved_at=None,
        resolved_by=None,
        recorded=False,
        recorded_at=None,
    )


def _last_of_each_kind(done: Detected) -> dict[str, tuple[UUID | None, tuple[str, ...], str]]:
    """Return for each kind its last anomaly's id, evidence and explanation."""
    oldest_first = [
        *((one.kind, (one.anomaly_id, one.evidence, one.explanation)) for one in reversed(done.recorded)),
        *((one.kind, (anomaly_id, one.evidence, one.explanation)) for anomaly_id, one in reversed(done.found)),
    ]
    return dict(oldest_first)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


_ANALYTICS = "/api/v1/analytics"
_LICENSE = f"{_ANALYTICS}/licenses/{{license_id}}"

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        method="POST",
        path=f"{_LICENSE}/anomalies/detect",
        handler=detect,
        summary="Detect a licence's anomalies now",
        auth=Auth.API_KEY,
        body=NoBody,
        body_required=False,
        answers={200: DetectAnswer},
        refusals=(LicenseNotFound,),
        tag="anomalies",
    ),
    Endpoint(
        method="GET",
        path=f"{_LICENSE}/risk-score",
        handler=risk_score,
        summary="Get a licence's risk score",
        auth=Auth.API_KEY,
        answers={200: RiskScoreAnswer},
        refusals=(LicenseNotFound,),
        tag="anomalies",
    ),
    Endpoint(
        method="GET",
        path=f"{_LICENSE}/anomalies",
        handler=list_of_license,
        summary="List a licence's anomalies",
        auth=Auth.API_KEY,
        query=LicenseAnomaliesQuery,
        answers={200: AnomalyList},
        refusals=(LicenseNotFound,),
        tag="anomalies",
    ),
    Endpoint(
        method="GET",
        path=f"{_ANALYTICS}/anomalies",
        handler=list_anomalies,
        summary="List the anomalies of all licences",
        auth=Auth.API_KEY,
        query=AnomaliesQuery,
        answers={200: AnomalyList},
        tag="anomalies",
    ),
)
