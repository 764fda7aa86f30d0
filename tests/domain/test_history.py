"""What a licence was at a moment, what each event changed, and why a device would have been answered as it would."""

from __future__ import annotations

from datetime import timedelta
from functools import reduce
from typing import Any
from uuid import UUID

import pytest

from domain.facts import (
    DeviceActivated,
    DeviceDeactivated,
    DeviceRenamed,
    Fact,
    LicenseDeactivated,
    LicenseReactivated,
    LicenseUpdated,
    SeatTransferred,
)
from domain.history.past import Entry, LicenseThen, Moment, Sealed, advance, compared, picture, step
from domain.history.why import GROUNDS, Asked, explain
from domain.validation import RULES
from tests.support.given import NOW, history, issued

LATER = NOW + timedelta(days=1)


def entries(*facts: Fact) -> list[Entry]:
    """Return facts as events at the positions 10, 20 and so on."""
    return [Entry(10 * number, event) for number, event in enumerate(history(*facts), 1)]


def fold(happened: list[Entry]) -> LicenseThen | None:
    """Return the licence after these events."""
    return reduce(advance, happened, None)


def told(*facts: Fact) -> list[dict[str, tuple[Any, Any]]]:
    """Return for each fact what it changed: the field, of a device with its id, to what it was and is."""
    then, found = None, []
    for entry in entries(*facts):
        then, changes = step(then, entry)
        found.append({f"{c.hardware_id}.{c.field}" if c.hardware_id else c.field: (c.before, c.after) for c in changes})
    return found


def test_each_event_tells_what_it_changed() -> None:
    facts = [
        issued(max_devices=2),
        DeviceActivated(hardware_id="a", sealed={"device_name": b"1"}),
        DeviceRenamed(hardware_id="a", name_tag=b"", sealed={"device_name": b"2"}),
        SeatTransferred(from_hardware_id="a", to_hardware_id="b", ended_activation_id=UUID(int=1)),
        LicenseUpdated(max_devices=1, product="Editor", expires_at=LATER, sealed={"email": b"e"}),
        LicenseDeactivated(),
        LicenseReactivated(),
        DeviceDeactivated(hardware_id="b", activation_id=UUID(int=1)),
    ]
    first, activated, renamed, moved, updated, revoked, restored, given_up = told(*facts)
    assert first["max_devices"] == (None, 2)
    assert activated.pop("a.activation_id")[0] is None
    assert activated == {
        "current_devices": (0, 1),
        "a.is_active": (None, True),
        "a.device_name": (None, Sealed(b"1")),
    }
    assert renamed == {"a.device_name": (Sealed(b"1"), Sealed(b"2"))}
    assert moved.pop("b.activation_id")[0] is None
    assert moved == {"a.is_active": (True, False), "b.is_active": (None, True)}
    assert updated == {
        "max_devices": (2, 1),
        "product": (None, "Editor"),
        "expires_at": (None, LATER),
        "email": (None, Sealed(b"e")),
    }
    assert (revoked, restored) == ({"is_active": (True, False)}, {"is_active": (False, True)})
    assert given_up == {"current_devices": (1, 0), "b.is_active": (True, False)}


def test_what_went_to_and_fro_differs_in_nothing() -> None:
    first, taken, given_up, updated, back = entries(
        issued(),
        DeviceActivated(hardware_id="a"),
        DeviceDeactivated(hardware_id="a", activation_id=UUID(int=1)),
        LicenseUpdated(max_devices=5),
        LicenseUpdated(max_devices=2),
    )
    then = fold([first, taken, given_up])
    before = picture(then)
    assert compared(before, picture(fold([first, taken, given_up, updated, back])), ["a"]) == ()
    changes = compared(picture(fold([first])), before, ["a"])
    assert {(change.field, change.after) for change in changes} == {
        ("is_active", False),
        ("activation_id", taken.event.event_id),
    }


def test_a_history_with_a_gap_is_none() -> None:
    first, _, third = entries(issued(), LicenseDeactivated(), LicenseReactivated())
    with pytest.raises(ValueError, match="at version 1"):
        fold([first, third])
    with pytest.raises(ValueError, match="does not begin"):
        fold([third])
    assert fold([]) is None


def test_a_moment_has_what_happened_up_to_it() -> None:
    entry = Entry(5, history(issued())[0])
    assert [Moment(position=position).has(entry) for position in (4, 5, 6)] == [False, True, True]
    instant = timedelta(microseconds=1)
    assert [Moment(time=NOW + shift).has(entry) for shift in (-instant, 0 * instant, instant)] == [False, True, True]


def test_each_rule_of_validation_has_its_events() -> None:
    assert tuple(GROUNDS) == RULES


def test_all_rules_are_told_and_the_first_that_refuses_decides() -> None:
    then = fold(entries(issued(max_devices=1, expires_at=NOW, product="Editor"), LicenseDeactivated()))
    asked = Asked(hardware_id="a", at=NOW + timedelta(seconds=1), products=("Viewer",))
    verdict = explain(then, asked)
    codes = [finding.refusal.code if finding.refusal else None for finding in verdict.findings]
    assert codes == [None, "PRODUCT_MISMATCH", "LICENSE_INACTIVE", "LICENSE_EXPIRED", "DEVICE_NOT_ACTIVATED"]
    assert [finding.decides for finding in verdict.findings] == [False, True, False, False, False]
    assert verdict.refusal is not None
    assert verdict.refusal.code == "PRODUCT_MISMATCH"


def test_it_is_good_up_to_and_including_its_end() -> None:
    then = fold(entries(issued(expires_at=NOW), DeviceActivated(hardware_id="a")))
    at_the_end = explain(then, Asked(hardware_id="a", at=NOW))
    after = explain(then, Asked(hardware_id="a", at=NOW + timedelta(microseconds=1)))
    assert at_the_end.refusal is None
    assert after.refusal is not None
    assert [verdict.findings[3].because.partition(" 2")[0] for verdict in (at_the_end, after)] == [
        "It was good until",
        "It ended",
    ]
