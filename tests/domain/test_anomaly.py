from __future__ import annotations

from functools import reduce
from uuid import UUID, uuid4

import pytest

from domain import anomaly
from domain.anomaly import Anomaly, Resolution, anomaly_id, resolve
from domain.errors import AnomalyDismissed
from domain.facts import AnomalyDetected, AnomalyResolved, Fact
from tests.support.given import NOW, history, recorded

LICENSE_ID = UUID(int=1)
DETECTED = AnomalyDetected(
    kind="leaked_key", severity="high", found_at=NOW, explanation="Strangers.", license_id=LICENSE_ID, evidence=("a",)
)


def given(*facts: Fact) -> Anomaly:
    """Return the anomaly to which these facts have led."""
    found = reduce(anomaly.evolve, history(*facts), None)
    assert found is not None
    return found


def resolved(resolution: Resolution) -> AnomalyResolved:
    return AnomalyResolved(resolution=resolution, kind="leaked_key", severity="high", license_id=LICENSE_ID)


@pytest.mark.parametrize("resolution", ["acknowledged", "dismissed"])
def test_a_word_about_an_open_one_says_again_what_it_is_about(resolution: Resolution) -> None:
    (fact,) = resolve(given(DETECTED), resolution, {"reason": b"sealed"})
    assert fact == AnomalyResolved(
        resolution=resolution, kind="leaked_key", severity="high", license_id=LICENSE_ID, sealed={"reason": b"sealed"}
    )


def test_a_word_about_an_address_names_its_hash() -> None:
    about_address = AnomalyDetected(
        kind="key_guessing", severity="medium", found_at=NOW, explanation="Keys.", address_hash=b"hash"
    )
    (fact,) = resolve(given(about_address), "dismissed", {})
    assert fact == AnomalyResolved(resolution="dismissed", kind="key_guessing", severity="medium", address_hash=b"hash")


@pytest.mark.parametrize("resolution", ["acknowledged", "dismissed"])
def test_the_same_word_again_changes_nothing(resolution: Resolution) -> None:
    assert resolve(given(DETECTED, resolved(resolution)), resolution, {"reason": b"another"}) == ()


def test_what_was_acknowledged_may_be_dismissed_after_all() -> None:
    (fact,) = resolve(given(DETECTED, resolved("acknowledged")), "dismissed", {})
    assert fact == resolved("dismissed")


def test_what_was_dismissed_is_not_taken_care_of_any_more() -> None:
    with pytest.raises(AnomalyDismissed):
        resolve(given(DETECTED, resolved("dismissed")), "acknowledged", {})


def test_a_log_out_of_order_is_not_believed() -> None:
    detected, word = history(DETECTED, resolved("dismissed"))
    with pytest.raises(ValueError, match="out of order"):
        anomaly.evolve(None, word)
    found = anomaly.evolve(None, detected)
    with pytest.raises(ValueError, match="out of order"):
        anomaly.evolve(found, detected)
    with pytest.raises(ValueError, match="out of order"):
        anomaly.evolve(found, recorded(found.id, 3, resolved("dismissed")))


def test_the_same_thing_found_again_has_the_same_id() -> None:
    subject, row = str(uuid4()), str(uuid4())
    first = anomaly_id("hammering", subject, row)
    assert anomaly_id("hammering", subject, row) == first
    others = [("leaked_key", subject, row), ("hammering", row, row), ("hammering", subject, subject)]
    assert first not in {anomaly_id(*other) for other in others}
