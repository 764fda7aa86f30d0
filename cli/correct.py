"""Undoing an event that was a mistake, from the command line."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from cli.audit_subjects import license_of
from cli.core import Workbench
from cli.errors import Failure
from commands.event_mapper import decoder
from commands.orders import CorrectEvent
from projections import history


async def correct(bench: Workbench, key_or_id: str, event_id: UUID, reason: str) -> dict[str, Any]:
    """Undo an event of a licence and return what is shown of that. Raises Failure and CorrectionRefused."""
    license_id = await license_of(bench, key_or_id)
    found = await history.event_of(bench.connection, license_id, event_id, decoder())
    if found is None:
        raise Failure("the licence has no such event")
    subject_id = found.event.subject_id
    has_key = subject_id is not None and await bench.subjects.has_key(bench.connection, subject_id)
    order = CorrectEvent(
        cause=bench.cause(CorrectEvent),
        now=bench.clock.now(),
        license_id=license_id,
        event=found.event,
        sealed={"reason": bench.vault.seal(subject_id, reason)} if subject_id is not None and has_key else {},
    )
    await bench.execute(order)
    return {"license_id": license_id, "undoes": event_id, "corrected_at": order.now}
