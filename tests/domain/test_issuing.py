from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from domain import issuing
from domain.errors import Invalid
from domain.facts import LicenseDeactivated, LicenseIssued, LicenseReactivated, LicenseUpdated
from domain.issuing import Changes, Terms
from tests.support.given import NOW, activated, given, issued, then


def terms(**fields: Any) -> Terms:
    return Terms(**{"key_digest": b"d", "key_sealed": b"s", "max_devices": 1, **fields})


def test_a_licence_is_issued_on_its_terms() -> None:
    wanted = terms(features=("a",), product="p", edition="e", floating=True, is_test=True, expires_at=NOW)
    assert issuing.issue(wanted) == (
        LicenseIssued(
            key_digest=b"d",
            key_sealed=b"s",
            max_devices=1,
            features=("a",),
            product="p",
            edition="e",
            floating=True,
            is_test=True,
            expires_at=NOW,
        ),
    )


@pytest.mark.parametrize("count", [-1, 0, 100_001])
def test_no_licence_has_an_impossible_number_of_seats(count: int) -> None:
    with pytest.raises(Invalid) as refused:
        issuing.issue(terms(max_devices=count))
    assert list(refused.value.details) == ["max_devices"]
    with pytest.raises(Invalid):
        issuing.update(given(issued()), Changes(max_devices=count))


@pytest.mark.parametrize("count", [1, 100_000])
def test_the_ends_of_the_range_are_allowed(count: int) -> None:
    assert issuing.issue(terms(max_devices=count))
    assert issuing.update(given(issued(max_devices=7)), Changes(max_devices=count))


class TestUpdating:
    def test_records_only_what_differs(self) -> None:
        license = given(issued(max_devices=2, product="p"))
        changes = Changes(max_devices=3, product="p", edition=None, floating=False)
        assert issuing.update(license, changes) == (LicenseUpdated(max_devices=3),)

    def test_with_nothing_new_records_nothing(self) -> None:
        license = given(issued(max_devices=2))
        assert issuing.update(license, Changes()) == ()
        assert issuing.update(license, Changes(max_devices=2, is_active=True)) == ()

    def test_to_null_makes_a_licence_perpetual(self) -> None:
        license = given(issued(expires_at=NOW + timedelta(days=1)))
        assert issuing.update(license, Changes(expires_at=None)) == (LicenseUpdated(expires_at=None),)

    def test_of_sealed_values_always_counts(self) -> None:
        facts = issuing.update(given(issued()), Changes(sealed={"email": b"x"}))
        assert facts == (LicenseUpdated(sealed={"email": b"x"}),)

    def test_may_revoke_and_restore(self) -> None:
        license = given(issued())
        assert issuing.update(license, Changes(max_devices=9, is_active=False)) == (
            LicenseUpdated(max_devices=9),
            LicenseDeactivated(),
        )
        then(license, (LicenseDeactivated(),))
        assert issuing.update(license, Changes(is_active=True)) == (LicenseReactivated(),)

    def test_below_use_keeps_active_devices(self) -> None:
        license = given(issued(max_devices=2), activated("pc-1"), activated("pc-2"))
        then(license, issuing.update(license, Changes(max_devices=1)))
        assert license.limits == {"max_devices": 1, "current_devices": 2}


class TestRevoking:
    def test_is_recorded_once(self) -> None:
        license = given(issued())
        assert issuing.deactivate(license, {"reason": b"r"}) == (LicenseDeactivated(sealed={"reason": b"r"}),)
        then(license, (LicenseDeactivated(),))
        assert issuing.deactivate(license) == ()

    def test_keeps_seats_and_ends_tokens(self) -> None:
        license = given(issued(), activated("pc-1"))
        then(license, issuing.deactivate(license))
        assert (license.is_active, license.current_devices) == (False, 1)
        then(license, issuing.reactivate(license))
        assert (license.is_active, license.current_devices) == (True, 1)

    def test_of_a_good_licence_only_is_undone(self) -> None:
        assert issuing.reactivate(given(issued())) == ()
