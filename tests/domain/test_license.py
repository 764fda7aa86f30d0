from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from domain import license as licenses
from domain.facts import (
    ApiKeyRevoked,
    DeviceDeactivated,
    DeviceRenamed,
    Fact,
    LicenseDeactivated,
    LicenseIssued,
    LicenseUpdated,
    SeatTransferred,
)
from tests.support.given import NOW, activated, fold, given, history, issued, recorded


def test_terms_are_taken_from_the_issue_and_changed_by_updates() -> None:
    first = LicenseIssued(
        key_digest=b"d",
        key_sealed=b"s",
        max_devices=3,
        features=("a",),
        product="p",
        edition="e",
        floating=True,
        expires_at=NOW,
    )
    license = given(first)
    assert (license.max_devices, license.features, license.product) == (3, ("a",), "p")
    assert (license.edition, license.floating, license.expires_at, license.version) == ("e", True, NOW, 1)
    changed = given(first, LicenseUpdated(features=(), product=None, expires_at=None))
    assert (changed.max_devices, changed.features, changed.product) == (3, (), None)
    assert (changed.edition, changed.floating, changed.expires_at, changed.version) == ("e", True, None, 2)


def test_an_activation_is_named_by_the_event_that_gave_it() -> None:
    events = history(issued(), activated("pc-1", b"tag"))
    seat = fold(events).activation("pc-1")
    assert seat is not None
    assert (seat.activation_id, seat.activated_at, seat.name_tag) == (events[1].event_id, NOW, b"tag")
    moved = [*events, recorded(events[0].originator_id, 3, _transfer("pc-1", "pc-2"))]
    seat = fold(moved).activation("pc-2")
    assert seat is not None
    # The old device's name is not the new one's.
    assert (seat.activation_id, seat.name_tag) == (moved[2].event_id, None)


def test_a_device_that_comes_back_has_another_activation() -> None:
    events = history(issued(), activated("pc-1"), _end("pc-1"), activated("pc-1"))
    seat = fold(events).activation("pc-1")
    assert seat is not None
    assert seat.activation_id == events[3].event_id != events[1].event_id


@pytest.mark.parametrize("first", [activated("pc-1"), LicenseDeactivated(), ApiKeyRevoked()])
def test_a_licence_begins_with_its_issue(first: Fact) -> None:
    with pytest.raises(ValueError, match="does not begin"):
        licenses.evolve(None, recorded(uuid4(), 1, first))
    with pytest.raises(ValueError, match="does not begin"):
        licenses.evolve(None, recorded(uuid4(), 2, issued()))


@pytest.mark.parametrize("version", [0, 1, 3])
def test_a_gap_or_a_repeat_in_the_log_is_not_believed(version: int) -> None:
    license = given(issued())
    with pytest.raises(ValueError, match="at version 1"):
        licenses.evolve(license, recorded(license.id, version, activated("pc-1")))


def test_a_fact_of_another_aggregate_is_not_believed() -> None:
    license = given(issued())
    with pytest.raises(ValueError, match="does not know"):
        licenses.evolve(license, recorded(license.id, 2, ApiKeyRevoked()))


def test_a_seat_that_was_never_taken_can_not_end() -> None:
    license = given(issued())
    for fact in (_end("pc-1"), _transfer("pc-1", "pc-2"), DeviceRenamed(hardware_id="pc-1", name_tag=b"t")):
        with pytest.raises(KeyError):
            licenses.evolve(license, recorded(license.id, 2, fact))


def _end(hardware_id: str) -> DeviceDeactivated:
    return DeviceDeactivated(hardware_id=hardware_id, activation_id=UUID(int=1))


def _transfer(source: str, target: str) -> SeatTransferred:
    return SeatTransferred(from_hardware_id=source, to_hardware_id=target, ended_activation_id=UUID(int=1))
