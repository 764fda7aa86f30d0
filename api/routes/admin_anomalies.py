"""Anomalies for administrators: list, look at one, acknowledge or dismiss it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from api.call import Call
from api.endpoint import Auth, Endpoint
from api.presentation import admin_anomaly_answer
from api.responses import Answer, answer
from api.routes.anomalies import listed, wanted
from api.schemas.anomalies import (
    AcknowledgeRequest,
    AdminAnomalyAnswer,
    AdminAnomalyList,
    AnomaliesQuery,
    DismissRequest,
)
from commands.batch import Outcome
from commands.orders import ResolveAnomaly
from domain.anomaly import Resolution
from domain.errors import AnomalyDismissed, NotFound
from projections import anomalies
from projections.anomalies import AnomalyRow


async def list_anomalies(call: Call) -> Answer:
    """List all anomalies, the newest first."""
    query: AnomaliesQuery = call.query
    async with call.services.pool.connection() as connection:
        rows, pagination = await listed(call, connection, wanted(query, query.license_id))
    shown = [admin_anomaly_answer(call.services.vault, row) for row in rows]
    return answer(200, AdminAnomalyList(anomalies=shown, pagination=pagination))


async def get_anomaly(call: Call) -> Answer:
    """Show an anomaly."""
    return answer(200, admin_anomaly_answer(call.services.vault, await _existing(call)))


async def acknowledge(call: Call) -> Answer:
    """Say that an anomaly is taken care of; a repeat gives the same answer and makes no second event."""
    body: AcknowledgeRequest = call.body
    return await _resolve(call, "acknowledged", body.reason)


async def dismiss(call: Call) -> Answer:
    """Say that an anomaly is nothing; a repeat gives the same answer and makes no second event."""
    body: DismissRequest = call.body
    return await _resolve(call, "dismissed", body.reason)


async def _existing(call: Call) -> AnomalyRow:
    """Return the anomaly that the path names, its subject's key in memory. Raises NotFound."""
    anomaly_id = call.path_id("anomaly_id")
    row = None
    if anomaly_id is not None:
        async with call.services.pool.connection() as connection:
            row = await anomalies.by_id(connection, anomaly_id)
    if row is None:
        raise NotFound("Anomaly not found")
    if row.subject_id is not None:
        call.services.vault.take(row.subject_id, row.wrapped_key)
    return row


async def _resolve(call: Call, resolution: Resolution, reason: str | None) -> Answer:
    row = await _existing(call)
    # Without a key there is nothing to seal a reason under: it is not kept then.
    vault = call.services.vault
    subject_id = row.subject_id if row.subject_id is not None and vault.knows(row.subject_id) else None
    has_reason = reason is not None and subject_id is not None
    order = ResolveAnomaly(
        cause=call.cause(ResolveAnomaly, subject_id),
        now=call.now,
        anomaly_id=row.anomaly_id,
        resolution=resolution,
        sealed={"reason": call.services.vault.seal(subject_id, reason)} if has_reason else {},  # type: ignore[arg-type]
    )
    shows = [] if subject_id is None else [subject_id]
    return await call.execute(order, _shown_after(call, row.anomaly_id), needs_views=True, shows=shows)


def _shown_after(call: Call, anomaly_id: UUID) -> Any:
    """Render the anomaly as the transaction has left it."""

    def render(_: Outcome, connection: Any) -> bytes:
        row = anomalies.row_of(connection.execute(anomalies.BY_ID, (anomaly_id,)).fetchone())
        return msgspec.json.encode(admin_anomaly_answer(call.services.vault, row))

    return render


_PATH = "/api/v1/admin/anomalies"

ENDPOINTS = (
    Endpoint(
        method="GET",
        path=_PATH,
        handler=list_anomalies,
        summary="List anomalies",
        auth=Auth.ADMIN_KEY,
        query=AnomaliesQuery,
        answers={200: AdminAnomalyList},
        tag="anomalies",
    ),
    Endpoint(
        method="GET",
        path=f"{_PATH}/{{anomaly_id}}",
        handler=get_anomaly,
        summary="Get an anomaly",
        auth=Auth.ADMIN_KEY,
        answers={200: AdminAnomalyAnswer},
        refusals=(NotFound,),
        tag="anomalies",
    ),
    Endpoint(
        method="POST",
        path=f"{_PATH}/{{anomaly_id}}/acknowledge",
        handler=acknowledge,
        summary="Acknowledge an anomaly",
        auth=Auth.ADMIN_KEY,
        body=AcknowledgeRequest,
        body_required=False,
        answers={200: AdminAnomalyAnswer},
        refusals=(NotFound, AnomalyDismissed),
        takes_idempotency_key=True,
        tag="anomalies",
    ),
    Endpoint(
        method="POST",
        path=f"{_PATH}/{{anomaly_id}}/dismiss",
        handler=dismiss,
        summary="Dismiss an anomaly",
        auth=Auth.ADMIN_KEY,
        body=DismissRequest,
        answers={200: AdminAnomalyAnswer},
        refusals=(NotFound,),
        takes_idempotency_key=True,
        tag="anomalies",
    ),
)
