"""A licence against the simplest model of one: a set of devices, a limit, a switch."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from domain import issuing, seats
from domain.errors import Refusal
from domain.facts import Fact, Recorded
from domain.issuing import Changes
from domain.license import evolve
from domain.seats import Device
from domain.validation import has_expired
from tests.support.given import NOW, fold, history, issued, recorded

DEVICES = st.sampled_from(["a", "b", "c", "d", "e"])
NAMES = st.sampled_from([None, b"one", b"two"])
EXPIRY = st.sampled_from([None, NOW - timedelta(seconds=1), NOW, NOW + timedelta(days=1)])


def _decided(decide: Callable[[], tuple[Fact, ...]]) -> tuple[tuple[Fact, ...], str | None]:
    try:
        return decide(), None
    except Refusal as refused:
        return (), refused.code


class LicenseMachine(RuleBasedStateMachine):
    """What the decisions allow must be what the model allows; the fold of all facts must be the model."""

    @initialize(max_devices=st.integers(1, 4), expires_at=EXPIRY)
    def issue(self, max_devices: int, expires_at: object) -> None:
        self.log: list[Recorded] = history(issued(max_devices, expires_at))  # type: ignore[arg-type]
        self.license = fold(self.log)
        self.max_devices = max_devices
        self.expires_at = expires_at
        self.active = True
        self.seats: dict[str, bytes | None] = {}

    def _record(self, facts: tuple[Fact, ...]) -> None:
        for fact in facts:
            self.log.append(recorded(self.license.id, self.license.version + 1, fact))
            evolve(self.license, self.log[-1])

    def _usable(self) -> str | None:
        if not self.active:
            return "LICENSE_INACTIVE"
        return "LICENSE_EXPIRED" if has_expired(self.license, NOW) else None

    @rule(hardware_id=DEVICES, name=NAMES, repeatable=st.booleans())
    def activate(self, hardware_id: str, name: bytes | None, *, repeatable: bool) -> None:
        held = hardware_id in self.seats
        expected = self._usable()
        if expected is None and held and not repeatable:
            expected = "ALREADY_ACTIVATED"
        if expected is None and not held and len(self.seats) >= self.max_devices:
            expected = "DEVICE_LIMIT_EXCEEDED"
        device = Device(hardware_id=hardware_id, name_tag=name, sealed={"device_name": b"x"} if name else {})
        facts, refused = _decided(lambda: seats.activate(self.license, device, NOW, repeatable=repeatable))
        assert refused == expected
        if refused is not None:
            return
        renamed = held and name is not None and name != self.seats[hardware_id]
        assert len(facts) == (not held or renamed)
        if not held or renamed:
            self.seats[hardware_id] = name
        self._record(facts)

    @rule(hardware_id=DEVICES)
    def deactivate(self, hardware_id: str) -> None:
        facts, refused = _decided(lambda: seats.deactivate(self.license, hardware_id, {}))
        assert refused == (None if hardware_id in self.seats else "DEVICE_NOT_FOUND")
        self.seats.pop(hardware_id, None)
        self._record(facts)

    @rule(source=DEVICES, other=DEVICES)
    def transfer(self, source: str, other: str) -> None:
        in_use = len(self.seats)
        facts, refused = _decided(lambda: seats.transfer(self.license, source, other, {}))
        if source == other:
            assert refused == "VALIDATION_ERROR"
        elif source not in self.seats:
            assert refused == "DEVICE_NOT_FOUND"
        else:
            assert refused == ("ALREADY_ACTIVATED" if other in self.seats else None)
        if refused is not None:
            return
        self._record(facts)
        del self.seats[source]
        self.seats[other] = None
        assert len(self.seats) == in_use

    @rule(max_devices=st.integers(1, 4))
    def change_limit(self, max_devices: int) -> None:
        self._record(issuing.update(self.license, Changes(max_devices=max_devices)))
        self.max_devices = max_devices

    @rule(expires_at=EXPIRY)
    def change_expiry(self, expires_at: object) -> None:
        self._record(issuing.update(self.license, Changes(expires_at=expires_at)))  # type: ignore[arg-type]
        self.expires_at = expires_at

    @rule(on=st.booleans())
    def switch(self, *, on: bool) -> None:
        facts = issuing.update(self.license, Changes(is_active=on))
        assert len(facts) == (on != self.active)
        self.active = on
        self._record(facts)

    @invariant()
    def the_state_is_the_models(self) -> None:
        if not hasattr(self, "log"):
            return
        for license in (self.license, fold(self.log)):
            assert {device for device in "abcde" if license.activation(device)} == set(self.seats)
            assert license.limits == {"max_devices": self.max_devices, "current_devices": len(self.seats)}
            assert (license.is_active, license.expires_at) == (self.active, self.expires_at)
        assert fold(self.log) == self.license


TestLicense = LicenseMachine.TestCase
TestLicense.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
