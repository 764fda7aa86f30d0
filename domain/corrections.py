"""Decisions that undo an earlier event by its opposite, which names it. Nothing is edited."""

from __future__ import annotations

from domain.errors import CorrectionRefused
from domain.facts import Fact, LicenseDeactivated, LicenseReactivated, Recorded, SeatTransferred
from domain.license import License


def undo(license: License, event: Recorded, sealed: dict[str, bytes]) -> tuple[Fact, ...]:
    """Undo a revocation or a transfer of this licence. Sealed: reason.

    Raises CorrectionRefused where the event is of another kind, or where later ones stand in its way.
    """
    match event.fact:
        case LicenseDeactivated():
            return _reactivated(license, event, sealed)
        case SeatTransferred() as fact:
            return _moved_back(license, event, fact, sealed)
        case fact:
            kinds = f"{LicenseDeactivated.stored_name} and {SeatTransferred.stored_name}"
            raise _refused(event, f"of all events, only {kinds} can be undone; this is {fact.stored_name}")


def _reactivated(license: License, event: Recorded, sealed: dict[str, bytes]) -> tuple[Fact, ...]:
    if license.is_active:
        raise _refused(event, "the licence is good again already")
    if license.deactivated_by != event.event_id:
        raise _refused(event, "the licence was revoked again since", in_the_way=str(license.deactivated_by))
    return (LicenseReactivated(undoes=event.event_id, sealed=sealed),)


def _moved_back(license: License, event: Recorded, fact: SeatTransferred, sealed: dict[str, bytes]) -> tuple[Fact, ...]:
    source, target = fact.from_hardware_id, fact.to_hardware_id
    seat, taken = license.activation(target), license.activation(source)
    if seat is None:
        raise _refused(event, f"{target} does not hold the seat any more")
    if seat.activation_id != event.event_id:
        raise _refused(event, f"{target} holds another seat since", in_the_way=str(seat.activation_id))
    if taken is not None:
        raise _refused(event, f"{source} has taken another seat since", in_the_way=str(taken.activation_id))
    back = SeatTransferred(
        from_hardware_id=target,
        to_hardware_id=source,
        ended_activation_id=seat.activation_id,
        undoes=event.event_id,
        sealed=sealed,
    )
    return (back,)


def _refused(event: Recorded, why: str, **more: str) -> CorrectionRefused:
    return CorrectionRefused(event_id=str(event.event_id), why=why, **more)
