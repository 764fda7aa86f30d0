from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product as combinations

import pytest

from domain.errors import (
    DeviceLimitExceeded,
    DeviceNotActivated,
    LicenseExpired,
    LicenseInactive,
    ProductMismatch,
    Refusal,
)
from domain.validation import RULES, USABLE, refusal
from tests.support.given import NOW


@dataclass(frozen=True)
class Terms:
    is_active: bool = True
    product: str | None = None
    expires_at: datetime | None = None
    max_devices: int = 2
    current_devices: int = 1


@dataclass(frozen=True)
class Claim:
    device_is_active: bool = True
    products: tuple[str, ...] = ()


@pytest.mark.parametrize(
    "terms, claim, expected",
    [
        (Terms(), Claim(), None),
        (Terms(expires_at=NOW), Claim(), None),
        (Terms(expires_at=NOW - timedelta(microseconds=1)), Claim(), LicenseExpired),
        (Terms(is_active=False), Claim(), LicenseInactive),
        (Terms(), Claim(device_is_active=False), DeviceNotActivated),
        (Terms(current_devices=2), Claim(device_is_active=False), DeviceLimitExceeded),
        (Terms(current_devices=3), Claim(device_is_active=False), DeviceLimitExceeded),
        (Terms(current_devices=3), Claim(), None),
        (Terms(product="editor"), Claim(products=("editor",)), None),
        (Terms(product="editor"), Claim(products=("player",)), ProductMismatch),
        (Terms(product=None), Claim(products=("player",)), ProductMismatch),
        (Terms(product="editor"), Claim(products=("editor", "player")), ProductMismatch),
    ],
)
def test_each_rule(terms: Terms, claim: Claim, expected: type[Refusal] | None) -> None:
    found = refusal(terms, claim, NOW)
    assert found is None if expected is None else type(found) is expected


def test_when_several_rules_refuse_the_first_of_the_order_decides() -> None:
    for wrong_product, inactive, expired, without_seat, full in combinations((True, False), repeat=5):
        terms = Terms(
            is_active=not inactive,
            product="editor",
            expires_at=NOW - timedelta(days=1) if expired else None,
            current_devices=2 if full else 1,
        )
        claim = Claim(not without_seat, ("player",) if wrong_product else ())
        order: list[tuple[bool, type[Refusal]]] = [
            (wrong_product, ProductMismatch),
            (inactive, LicenseInactive),
            (expired, LicenseExpired),
            (without_seat and not full, DeviceNotActivated),
            (without_seat and full, DeviceLimitExceeded),
        ]
        expected = next((kind for applies, kind in order if applies), None)
        found = refusal(terms, claim, NOW)
        assert (found and type(found)) is expected


def test_the_limit_is_told_with_its_refusal() -> None:
    found = refusal(Terms(current_devices=2), Claim(device_is_active=False), NOW)
    assert found is not None
    assert found.details == {"max_devices": 2, "current_devices": 2}


def test_activation_does_not_ask_whether_the_device_has_a_seat() -> None:
    assert refusal(Terms(current_devices=2), Claim(device_is_active=False), NOW, USABLE) is None
    assert RULES[: len(USABLE)] == USABLE
