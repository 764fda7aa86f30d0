from __future__ import annotations

from datetime import timedelta

import pytest

from domain import seats
from domain.errors import (
    AlreadyActivated,
    DeviceLimitExceeded,
    DeviceNotFound,
    Invalid,
    LicenseExpired,
    LicenseInactive,
    ProductMismatch,
)
from domain.facts import (
    DeviceActivated,
    DeviceDeactivated,
    DeviceRenamed,
    LicenseDeactivated,
    LicenseUpdated,
    SeatTransferred,
)
from domain.seats import Device
from tests.support.given import NOW, activated, given, issued, then


def device(hardware_id: str = "pc-1", *, name_tag: bytes | None = None, products: tuple[str, ...] = ()) -> Device:
    sealed = {"device_name": b"sealed name", "os_info": b"sealed os"} if name_tag else {}
    return Device(hardware_id=hardware_id, name_tag=name_tag, sealed=sealed, products=products)


class TestActivating:
    def test_takes_a_free_seat(self) -> None:
        license = given(issued(max_devices=1))
        asked = Device(hardware_id="pc-1", name_tag=b"t", sealed={"os_info": b"x"}, app_version="1.2", client_time=NOW)
        assert seats.activate(license, asked, NOW) == (
            DeviceActivated(
                hardware_id="pc-1", name_tag=b"t", sealed={"os_info": b"x"}, app_version="1.2", client_time=NOW
            ),
        )

    def test_is_refused_once_all_seats_are_taken(self) -> None:
        license = given(issued(max_devices=2), activated("pc-1"), activated("pc-2"))
        with pytest.raises(DeviceLimitExceeded) as refused:
            seats.activate(license, device("pc-3"), NOW)
        assert refused.value.details == {"max_devices": 2, "current_devices": 2}

    def test_is_refused_for_new_devices_after_the_limit_was_lowered_below_use(self) -> None:
        license = given(issued(max_devices=2), activated("pc-1"), activated("pc-2"), LicenseUpdated(max_devices=1))
        with pytest.raises(DeviceLimitExceeded) as refused:
            seats.activate(license, device("pc-3"), NOW)
        assert refused.value.details == {"max_devices": 1, "current_devices": 2}
        assert license.activation("pc-1") is not None

    def test_of_a_device_with_a_seat_names_that_activation(self) -> None:
        license = given(issued(), activated("pc-1"))
        seat = license.activation("pc-1")
        assert seat is not None
        with pytest.raises(AlreadyActivated) as refused:
            seats.activate(license, device("pc-1"), NOW)
        assert refused.value.details == {
            "hardware_id": "pc-1",
            "activation_id": str(seat.activation_id),
            "activated_at": NOW,
        }

    def test_of_a_device_with_a_seat_is_told_so_even_when_the_licence_is_full(self) -> None:
        with pytest.raises(AlreadyActivated):
            seats.activate(given(issued(max_devices=1), activated("pc-1")), device("pc-1"), NOW)

    @pytest.mark.parametrize("name_tag", [None, b"old"])
    def test_repeated_where_that_is_allowed_changes_nothing(self, name_tag: bytes | None) -> None:
        license = given(issued(max_devices=1), activated("pc-1", b"old"))
        assert seats.activate(license, device(name_tag=name_tag), NOW, repeatable=True) == ()

    def test_repeated_under_another_name_records_the_name_and_takes_no_seat(self) -> None:
        license = given(issued(max_devices=1), activated("pc-1", b"old"))
        facts = seats.activate(license, device(name_tag=b"new"), NOW, repeatable=True)
        assert facts == (DeviceRenamed(hardware_id="pc-1", name_tag=b"new", sealed={"device_name": b"sealed name"}),)
        before = license.activation("pc-1")
        after = then(license, facts).activation("pc-1")
        assert before is not None
        assert after is not None
        assert (after.activation_id, after.name_tag) == (before.activation_id, b"new")
        assert license.current_devices == 1

    def test_of_a_repeat_is_refused_like_any_other_once_the_licence_is_revoked(self) -> None:
        with pytest.raises(LicenseInactive):
            seats.activate(given(issued(), activated("pc-1"), LicenseDeactivated()), device(), NOW, repeatable=True)

    def test_of_a_revoked_licence_is_refused(self) -> None:
        with pytest.raises(LicenseInactive):
            seats.activate(given(issued(), LicenseDeactivated()), device(), NOW)

    def test_is_good_up_to_and_including_the_instant_of_expiry(self) -> None:
        license = given(issued(expires_at=NOW))
        assert seats.activate(license, device(), NOW)
        with pytest.raises(LicenseExpired):
            seats.activate(license, device(), NOW + timedelta(microseconds=1))

    def test_for_another_product_is_refused(self) -> None:
        license = given(issued(product="editor"))
        assert seats.activate(license, device(products=("editor",)), NOW)
        with pytest.raises(ProductMismatch):
            seats.activate(license, device(products=("editor", "player")), NOW)

    def test_compares_hardware_ids_byte_for_byte(self) -> None:
        license = given(issued(max_devices=4), activated("PC-1"))
        # The same letter, once composed and once decomposed, is two devices.
        for other in ("pc-1", "\u00e9", "e\u0301"):
            then(license, seats.activate(license, device(other), NOW))
        assert license.current_devices == 4


class TestDeactivating:
    def test_gives_the_seat_back(self) -> None:
        license = given(issued(max_devices=1), activated("pc-1"))
        seat = license.activation("pc-1")
        assert seat is not None
        facts = seats.deactivate(license, "pc-1", {"reason": b"sealed"})
        assert facts == (
            DeviceDeactivated(hardware_id="pc-1", activation_id=seat.activation_id, sealed={"reason": b"sealed"}),
        )
        assert seats.activate(then(license, facts), device("pc-2"), NOW)

    def test_of_a_device_without_a_seat_is_refused(self) -> None:
        with pytest.raises(DeviceNotFound):
            seats.deactivate(given(issued(), activated("pc-1")), "pc-2", {})

    def test_twice_is_refused(self) -> None:
        license = given(issued(), activated("pc-1"))
        then(license, seats.deactivate(license, "pc-1", {}))
        with pytest.raises(DeviceNotFound):
            seats.deactivate(license, "pc-1", {})

    def test_works_on_a_revoked_or_expired_licence(self) -> None:
        license = given(issued(expires_at=NOW - timedelta(days=1)), activated("pc-1"), LicenseDeactivated())
        assert seats.deactivate(license, "pc-1", {})


class TestTransferring:
    def test_moves_the_seat_and_begins_a_new_activation(self) -> None:
        license = given(issued(max_devices=1), activated("pc-1"))
        old = license.activation("pc-1")
        assert old is not None
        facts = seats.transfer(license, "pc-1", "pc-2", {"reason": b"sealed"})
        assert facts == (
            SeatTransferred(
                from_hardware_id="pc-1",
                to_hardware_id="pc-2",
                ended_activation_id=old.activation_id,
                sealed={"reason": b"sealed"},
            ),
        )
        then(license, facts)
        new = license.activation("pc-2")
        assert new is not None
        assert new.activation_id != old.activation_id
        assert license.activation("pc-1") is None
        assert license.current_devices == 1

    def test_works_on_a_full_licence_and_below_a_lowered_limit(self) -> None:
        license = given(issued(max_devices=2), activated("pc-1"), activated("pc-2"), LicenseUpdated(max_devices=1))
        assert then(license, seats.transfer(license, "pc-1", "pc-3", {})).current_devices == 2

    def test_to_itself_is_malformed(self) -> None:
        with pytest.raises(Invalid, match="malformed") as refused:
            seats.transfer(given(issued(), activated("pc-1")), "pc-1", "pc-1", {})
        assert list(refused.value.details) == ["to_hardware_id"]

    def test_from_a_device_without_a_seat_is_refused(self) -> None:
        with pytest.raises(DeviceNotFound):
            seats.transfer(given(issued(), activated("pc-1")), "pc-9", "pc-1", {})

    def test_onto_a_device_with_a_seat_is_refused(self) -> None:
        with pytest.raises(AlreadyActivated) as refused:
            seats.transfer(given(issued(), activated("pc-1"), activated("pc-2")), "pc-1", "pc-2", {})
        assert refused.value.details["hardware_id"] == "pc-2"
