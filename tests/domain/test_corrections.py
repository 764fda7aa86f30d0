"""What was a mistake is undone by its opposite, as long as nothing that came later stands in its way."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from domain.corrections import undo
from domain.errors import CorrectionRefused
from domain.facts import (
    DeviceActivated,
    DeviceDeactivated,
    Fact,
    LicenseDeactivated,
    LicenseReactivated,
    LicenseUpdated,
    Recorded,
    SeatTransferred,
)
from tests.support.given import fold, history, issued, then

REASON = {"reason": b"sealed"}
SEAT = UUID(int=1)
A_TO_B = SeatTransferred(from_hardware_id="a", to_hardware_id="b", ended_activation_id=SEAT)
B_TO_C = SeatTransferred(from_hardware_id="b", to_hardware_id="c", ended_activation_id=SEAT)
C_TO_B = SeatTransferred(from_hardware_id="c", to_hardware_id="b", ended_activation_id=SEAT)
WITH_A = (issued(max_devices=2), DeviceActivated(hardware_id="a"))


def undone(number: int, *facts: Fact) -> tuple[tuple[Fact, ...], list[Recorded]]:
    """Undo the event with this number, counted from 0, after all of them have happened."""
    events = history(*facts)
    return undo(fold(events), events[number], REASON), events


def refused(number: int, *facts: Fact) -> tuple[dict[str, Any], list[str]]:
    """Return why undoing is refused, and the ids of the events."""
    events = history(*facts)
    with pytest.raises(CorrectionRefused) as raised:
        undo(fold(events), events[number], REASON)
    assert raised.value.details.pop("event_id") == str(events[number].event_id)
    return raised.value.details, [str(event.event_id) for event in events]


@pytest.mark.parametrize("between", [(), (LicenseUpdated(max_devices=9),), (*WITH_A[1:], A_TO_B)])
def test_a_revocation_is_undone(between: tuple[Fact, ...]) -> None:
    facts, events = undone(1, issued(), LicenseDeactivated(), *between)
    assert facts == (LicenseReactivated(undoes=events[1].event_id, sealed=REASON),)
    assert then(fold(events), facts).is_active


def test_a_revocation_that_is_not_in_force_any_more_is_not_undone() -> None:
    why, _ = refused(1, issued(), LicenseDeactivated(), LicenseReactivated())
    assert why == {"why": "the licence is good again already"}
    why, ids = refused(1, issued(), LicenseDeactivated(), LicenseReactivated(), LicenseDeactivated())
    assert why == {"why": "the licence was revoked again since", "in_the_way": ids[3]}


@pytest.mark.parametrize("between", [(), (LicenseDeactivated(),)])
def test_a_transfer_is_undone(between: tuple[Fact, ...]) -> None:
    facts, events = undone(2, *WITH_A, A_TO_B, *between)
    moved = events[2].event_id
    assert facts == (
        SeatTransferred(
            from_hardware_id="b", to_hardware_id="a", ended_activation_id=moved, undoes=moved, sealed=REASON
        ),
    )
    license = then(fold(events), facts)
    assert (license.activation("a") is None, license.activation("b") is None) == (False, True)


def test_a_transfer_is_not_undone_where_its_seat_has_gone_on() -> None:
    assert refused(2, *WITH_A, A_TO_B, B_TO_C)[0] == {"why": "b does not hold the seat any more"}
    gone = DeviceDeactivated(hardware_id="b", activation_id=SEAT)
    assert refused(2, *WITH_A, A_TO_B, gone)[0] == {"why": "b does not hold the seat any more"}
    why, ids = refused(2, *WITH_A, A_TO_B, B_TO_C, C_TO_B)
    assert why == {"why": "b holds another seat since", "in_the_way": ids[4]}


def test_a_transfer_is_not_undone_where_its_source_has_taken_another_seat() -> None:
    why, ids = refused(2, *WITH_A, A_TO_B, DeviceActivated(hardware_id="a"))
    assert why == {"why": "a has taken another seat since", "in_the_way": ids[3]}


def test_what_was_undone_once_is_not_undone_again() -> None:
    facts, events = undone(2, *WITH_A, A_TO_B)
    assert "b does not hold" in refused(2, *(event.fact for event in events), *facts)[0]["why"]


@pytest.mark.parametrize("number", range(3))
def test_other_events_can_not_be_undone(number: int) -> None:
    why, _ = refused(number, *WITH_A, LicenseUpdated(max_devices=9))
    assert why["why"].startswith("of all events, only license.deactivated and license.transferred can be undone")
