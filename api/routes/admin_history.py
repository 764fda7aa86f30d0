"""What happened to a licence and why, for administrators; and undoing what was a mistake."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from api.call import Call
from api.endpoint import Auth, Endpoint
from api.past_answers import Opener, history_entry, in_turns, last_event, rule_answer, verdict_answer
from api.responses import Answer, answer
from api.routes import validate
from api.routes.activate import limits_of
from api.routes.admin_licenses import existing_license, license_id_of
from api.schemas.history import (
    CorrectionAnswer,
    CorrectionRequest,
    ErasedBy,
    HistoryAnswer,
    HistoryQuery,
    WhyAnswer,
    WhyQuery,
)
from api.time_travel import NO_LICENSE, check_reached, fold, opener_for, past
from commands.batch import Outcome
from commands.orders import CorrectEvent
from domain.errors import CorrectionRefused, LicenseNotFound, NotFound
from domain.history.past import Change, Entry, LicenseThen, Moment, advance, step
from domain.history.why import Asked, explain
from projections import history as histories

_Told = tuple[Entry, tuple[Change, ...]]


async def history(call: Call) -> Answer:
    """Tell a licence's whole story in order, with what each event changed."""
    query: HistoryQuery = call.query
    license_id = license_id_of(call)
    async with past(call) as connection:
        found, then = await _part(call, connection, query)
        if then is None:
            raise LicenseNotFound(NO_LICENSE)
        opener = await opener_for(call, connection, then)
        erased_by = await _erased_by(call, connection, then) if opener.is_erased else None
    shown = await in_turns(lambda told: history_entry(opener, *told), found[: query.limit])
    answered = HistoryAnswer(
        license_id=license_id,
        personal_data=opener.personal_data,
        erased_by=erased_by,
        events=shown,
        next=shown[-1].position if len(found) > query.limit else None,
    )
    return answer(200, answered)


async def _part(call: Call, connection: Any, query: HistoryQuery) -> tuple[list[_Told], LicenseThen | None]:
    """Return the events that are asked for, one more where there is one, and the licence as they left it."""
    found: list[_Told] = []
    then: LicenseThen | None = None
    async for entry in histories.story(connection, license_id_of(call), call.services.decode_event):
        if entry.position <= query.after:
            then = advance(then, entry)
            continue
        then, changes = step(then, entry)
        found.append((entry, changes))
        if len(found) > query.limit:
            break
    return found, then


async def _erased_by(call: Call, connection: Any, then: LicenseThen) -> ErasedBy | None:
    subject_id = then.subject_id
    if subject_id is None:
        return None
    found = await histories.erasure_of(connection, subject_id, call.services.decode_event)
    if found is None:
        return None
    event = found.event
    return ErasedBy(
        event_id=event.event_id, position=found.position, occurred_at=event.occurred_at, actor=event.cause.actor
    )


async def why(call: Call) -> Answer:
    """Explain what a validation would have been told at an instant: each rule, and the events behind it."""
    query: WhyQuery = call.query
    license_id = license_id_of(call)
    # Of now, all that is recorded counts: another process' clock may be a little ahead.
    moment = None if query.at is None else Moment(time=query.at)
    at = query.at or call.now
    async with past(call) as connection:
        if moment is not None:
            await check_reached(call, connection, moment, "at")
        then = await fold(call, connection, license_id, moment)
        if then is None and not await histories.is_license(connection, license_id):
            raise LicenseNotFound(NO_LICENSE)
        opener = await opener_for(call, connection, then) if then else None
    products = () if query.product is None else (query.product,)
    verdict = explain(then, Asked(hardware_id=query.hardware_id, at=at, products=products))
    opener = opener or Opener(call.services.vault, None, "there")
    told = WhyAnswer(
        license_id=license_id,
        hardware_id=query.hardware_id,
        at=at,
        verdict=verdict_answer(validate.ENDPOINTS[0], verdict, then),
        rules=[rule_answer(opener, finding) for finding in verdict.findings],
        as_of=last_event(then.last) if then else None,
        personal_data=opener.personal_data,
    )
    return answer(200, told)


async def correct(call: Call) -> Answer:
    """Undo a revocation or a transfer by an event that names it."""
    body: CorrectionRequest = call.body
    row = await existing_license(call)
    services = call.services
    async with services.pool.connection() as connection:
        found = await histories.event_of(connection, row.license_id, body.event_id, services.decode_event)
    if found is None:
        raise NotFound("The licence has no such event")
    order = CorrectEvent(
        cause=call.cause(CorrectEvent, row.subject_id),
        now=call.now,
        license_id=row.license_id,
        event=found.event,
        sealed=_sealed_reason(call, row.subject_id, body.reason),
    )

    def render(outcome: Outcome, _: Any) -> bytes:
        recorded = outcome.recorded[0]
        done = CorrectionAnswer(
            license_id=row.license_id,
            event_id=recorded.event_id,
            type=recorded.fact.stored_name,
            undoes=body.event_id,
            corrected_at=recorded.occurred_at,
            limits=limits_of(outcome),
        )
        return msgspec.json.encode(done)

    return await call.execute(order, render)


def _sealed_reason(call: Call, subject_id: UUID, reason: str) -> dict[str, bytes]:
    """Seal a reason; it is not kept where its subject was erased, as there is no key any more to seal it under."""
    vault = call.services.vault
    return {"reason": vault.seal(subject_id, reason)} if vault.knows(subject_id) else {}


_PATH = "/api/v1/admin/licenses/{license_id}"

ENDPOINTS = (
    Endpoint(
        method="GET",
        path=f"{_PATH}/history",
        handler=history,
        summary="Get a licence's whole story, with what each event changed",
        auth=Auth.ADMIN_KEY,
        query=HistoryQuery,
        answers={200: HistoryAnswer},
        refusals=(LicenseNotFound,),
        tag="history",
    ),
    Endpoint(
        method="GET",
        path=f"{_PATH}/why",
        handler=why,
        summary="Explain what a validation would have been told at an instant",
        auth=Auth.ADMIN_KEY,
        query=WhyQuery,
        answers={200: WhyAnswer},
        refusals=(LicenseNotFound,),
        tag="history",
    ),
    Endpoint(
        method="POST",
        path=f"{_PATH}/corrections",
        handler=correct,
        summary="Undo a revocation or a transfer that was a mistake",
        auth=Auth.ADMIN_KEY,
        body=CorrectionRequest,
        answers={200: CorrectionAnswer},
        refusals=(LicenseNotFound, NotFound, CorrectionRefused),
        takes_idempotency_key=True,
        tag="history",
    ),
)
