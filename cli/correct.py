"""Undoing an event that was a mistake, from the command line."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from cli.audit_subjects import license_of
from cli.core import Workbench
from cli.errors import Failure
from commands.event_mapper import decoder
from commands.orders import CorrectEvent
from domain.facts import Recorded
from projections import history


async def correct(bench: Workbench, key_or_id: str, event_id: UUID, reason: str) -> dict[str, Any]:
    """Undo an event of a licence and return what is shown of that. Raises Failure and CorrectionRefused."""
    license_id = await license_of(bench, key_or_id)
    found = await history.event_of(bench.connection, license_id, event_id, decoder())
    if found is None:
        raise Failure("the licence has no such event")
    event = found.event
    corrected_at = await bench.until_current(lambda: _undo(bench, event, reason))
    return {"license_id": license_id, "undoes": event_id, "corrected_at": corrected_at}


async def _undo(bench: Workbench, event: Recorded, reason: str) -> datetime:
    """Undo an event and return when. The reason is not kept where there is no key any more to seal it under."""
    subject_id = event.subject_id
    has_key = subject_id is not None and await bench.subjects.key_of(bench.connection, subject_id) == "there"
    order = CorrectEvent(
        cause=bench.cause(CorrectEvent),
        now=bench.clock.now(),
        license_id=event.originator_id,
        event=event,
        sealed={"reason": bench.vault.seal(subject_id, reason)} if subject_id is not None and has_key else {},
    )
    await bench.execute(order)
    return order.now
