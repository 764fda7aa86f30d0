"""What was signed of the event log, and proofs: for auditors, who need no key but for an event itself."""

from __future__ import annotations

from contextlib import suppress

from api.call import Call
from api.endpoint import Auth, Endpoint
from api.responses import Answer, answer, text_answer
from api.schemas.audit import ConsistencyQuery, InclusionQuery
from domain.audit import checkpoint as notes
from domain.audit.checkpoint import BadCheckpoint, VerifierKey
from domain.errors import HistoryAltered, NotFound, NotYetSigned, ServiceUnavailable
from infra.notary_key import verify
from projections import audit_receipts, checkpoints
from projections.audit_receipts import Consistency, Inclusion, Receipt


async def checkpoint(call: Call) -> Answer:
    """Give the last checkpoint."""
    async with call.services.pool.connection() as connection:
        newest = await audit_receipts.newest(connection)
    return text_answer(200, newest.note)


async def key(call: Call) -> Answer:
    """Give the public key that signed the last checkpoint."""
    async with call.services.pool.connection() as connection:
        newest = await audit_receipts.newest(connection)
        known = await checkpoints.verifier_keys(connection)
    note = notes.parse(newest.note)
    for one in known:
        with suppress(BadCheckpoint):
            note.verified(VerifierKey.parse(one), verify)
            return text_answer(200, f"{one}\n")
    raise HistoryAltered


async def inclusion(call: Call) -> Answer:
    """Prove that an event is in a tree."""
    query: InclusionQuery = call.query
    async with call.services.pool.connection() as connection:
        return answer(200, await audit_receipts.inclusion(connection, query.event_id, query.size))


async def consistency(call: Call) -> Answer:
    """Prove that a tree is another one's beginning."""
    query: ConsistencyQuery = call.query
    async with call.services.pool.connection() as connection:
        return answer(200, await audit_receipts.consistency(connection, query.from_size, query.to_size))


async def receipt(call: Call) -> Answer:
    """Give an event with its proof and the checkpoint."""
    event_id = call.path_id("event_id")
    if event_id is None:
        raise NotFound("No such event")
    async with call.services.pool.connection() as connection:
        return answer(200, await audit_receipts.receipt(connection, event_id))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/v1/audit/checkpoint",
        handler=checkpoint,
        summary="Get the last checkpoint",
        auth=Auth.NONE,
        answers={200: str},
        refusals=(NotYetSigned, HistoryAltered, ServiceUnavailable),
        tag="audit",
    ),
    Endpoint(
        method="GET",
        path="/api/v1/audit/key",
        handler=key,
        summary="Get the key by which checkpoints are verified",
        auth=Auth.NONE,
        answers={200: str},
        refusals=(NotYetSigned, HistoryAltered, ServiceUnavailable),
        tag="audit",
    ),
    Endpoint(
        method="GET",
        path="/api/v1/audit/proof/inclusion",
        handler=inclusion,
        summary="Prove that an event is in the log that was signed",
        auth=Auth.NONE,
        query=InclusionQuery,
        answers={200: Inclusion},
        refusals=(NotFound, NotYetSigned, HistoryAltered),
        tag="audit",
    ),
    Endpoint(
        method="GET",
        path="/api/v1/audit/proof/consistency",
        handler=consistency,
        summary="Prove that a log that was signed is the beginning of a later one",
        auth=Auth.NONE,
        query=ConsistencyQuery,
        answers={200: Consistency},
        refusals=(NotYetSigned, HistoryAltered),
        tag="audit",
    ),
    Endpoint(
        method="GET",
        path="/api/v1/audit/receipts/{event_id}",
        handler=receipt,
        summary="Get the receipt of an event",
        auth=Auth.ADMIN_KEY,
        answers={200: Receipt},
        refusals=(NotFound, NotYetSigned, HistoryAltered),
        tag="audit",
    ),
)
