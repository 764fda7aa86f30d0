"""Where each rule of the detectors begins and ends, to the second and to the one: at the bound, and just beyond."""

from __future__ import annotations

import pytest

from domain.anomalies import (
    accepting,
    clock_rollback,
    cloned_hardware_id,
    hammering,
    impossible_travel,
    leaked_key,
    reseller_rotation,
    suppression,
)
from domain.anomalies.cloned_hardware_id import Timing
from domain.anomalies.engine import ADDRESS_SECONDS, Engine
from domain.anomalies.findings import CRITICAL, HIGH, MEDIUM, NOTHING, grade
from domain.anomalies.observation import Observation
from domain.anomalies.risk import _band
from domain.anomalies.scene import Scene
from domain.anomalies.state import Alert, Device, LicenseState, Stranger
from domain.anomalies.thresholds import DAY, DEFAULT, HOUR

NOW = 1_800_000_000


def device(**fields: object) -> Device:
    return Device(**{"group": 1, "first": NOW, "last": NOW, "network": 7, **fields})  # type: ignore[arg-type]


def scene(state: LicenseState, type: str = "license.validated", reason: str | None = None) -> Scene:
    seen = Observation(NOW, type, "row 1", "license", "pc", "network", reason=reason)
    return Scene(state, seen, NOW, 1, 7, succeeded=reason is None)


@pytest.mark.parametrize(
    "value, rank", [(9.99, NOTHING), (10, MEDIUM), (19.99, MEDIUM), (20, HIGH), (39.99, HIGH), (40, CRITICAL)]
)
def test_how_bad_it_is(value: float, rank: int) -> None:
    assert grade(value, 10) == rank


@pytest.mark.parametrize(
    "score, band", [(4.99, "none"), (5, "low"), (25, "medium"), (54.99, "medium"), (55, "high"), (80, "critical")]
)
def test_the_bands_of_risk(score: float, band: str) -> None:
    assert _band(score) == band


@pytest.mark.parametrize("age, is_quiet", [(7 * DAY - 1, True), (7 * DAY, False)])
def test_an_alert_is_quiet_for_a_week(age: int, *, is_quiet: bool) -> None:
    alert = Alert(NOW - age, MEDIUM)
    assert suppression.is_quiet(alert, MEDIUM, NOW, DEFAULT.quiet_seconds) is is_quiet
    assert not suppression.is_quiet(alert, HIGH, NOW, DEFAULT.quiet_seconds)


@pytest.mark.parametrize("age, rank", [(4 * DAY, MEDIUM), (4 * DAY + 1, NOTHING)])
def test_strangers_count_for_four_days(age: int, rank: int) -> None:
    state = LicenseState(0)
    state.strangers = [Stranger(NOW - age, number, number, 100) for number in range(4)]
    assert leaked_key.rank(state, NOW, DEFAULT) == rank


@pytest.mark.parametrize("weights, rank", [([400], NOTHING), ([200, 199], NOTHING), ([200, 200], MEDIUM)])
def test_four_strangers_are_a_leak_and_one_is_none(weights: list[int], rank: int) -> None:
    state = LicenseState(0)
    state.strangers = [Stranger(NOW, number, number, weight) for number, weight in enumerate(weights)]
    assert leaked_key.rank(state, NOW, DEFAULT) == rank


@pytest.mark.parametrize("age, count", [(DAY, 2), (DAY + 1, 1)])
def test_unknown_keys_count_for_a_day(age: int, count: int) -> None:
    engine = Engine()
    for time, key in ((NOW - age, "a"), (NOW, "b")):
        engine.observe(Observation(time, "license.validation.failed", "row", address="a", key_hash=key * 64))
    assert len(engine._addresses["a"].keys) == count


@pytest.mark.parametrize("age, begins_anew", [(ADDRESS_SECONDS, False), (ADDRESS_SECONDS + 1, True)])
def test_an_address_is_remembered_for_thirty_days(age: int, *, begins_anew: bool) -> None:
    engine = Engine()
    for time, key in ((NOW - age, "a"), (NOW, "b")):
        engine.observe(Observation(time, "license.validation.failed", "row", address="a", key_hash=key * 64))
        engine._addresses["a"].alert = engine._addresses["a"].alert or Alert(int(time), MEDIUM)
    alert = engine._addresses["a"].alert
    assert alert is not None
    assert alert.time == (NOW if begins_anew else NOW - age)
    engine.forget_addresses(NOW + ADDRESS_SECONDS)
    assert list(engine.addresses()) == ["a"]
    engine.forget_addresses(NOW + ADDRESS_SECONDS + 1)
    assert not list(engine.addresses())


def ranks(machine: Device, slot: int, count: int) -> list[int]:
    return [hammering.observe(machine, slot * hammering.SLOT_SECONDS, DEFAULT) for _ in range(count)]


def test_three_hundred_requests_in_ten_minutes_are_an_alert_at_once() -> None:
    found = ranks(device(), 1, 300)
    assert (set(found[:-1]), found[-1]) == ({NOTHING}, MEDIUM)


@pytest.mark.parametrize("first, told_at", [(130, 10), (129, 11)])
def test_a_hundred_and_twenty_beyond_one_a_minute_without_a_pause(first: int, told_at: int) -> None:
    machine = device()
    assert set(ranks(machine, 1, first)) == {NOTHING}
    found = ranks(machine, 2, 20)
    assert found.index(MEDIUM) + 1 == told_at


@pytest.mark.parametrize("peak, run", [(52, 120), (53, 0)])
def test_two_and_a_half_times_its_own_peak_is_hot(peak: int, run: int) -> None:
    machine = device(peak=peak)
    ranks(machine, 1, 130)
    ranks(machine, 2, 1)
    assert machine.run == run


@pytest.mark.parametrize("pause, run", [(1, 120), (2, 0)])
def test_a_slot_without_any_is_a_pause(pause: int, run: int) -> None:
    machine = device()
    ranks(machine, 1, 130)
    ranks(machine, 1 + pause, 1)
    assert machine.run == run


@pytest.mark.parametrize(
    "client_time, rollbacks",
    [
        (NOW - 15 * HOUR, 0),
        (NOW - 15 * HOUR - 1, 1),
        (NOW - 20 * HOUR, 1),
        (NOW - 20 * HOUR + 1, 0),
        (NOW - 20 * HOUR - 400 * DAY, 1),
        (NOW - 20 * HOUR - 400 * DAY - 1, 0),
        (NOW + 16 * HOUR, 0),
    ],
)
def test_which_clocks_went_back_into_the_term(client_time: float, rollbacks: int) -> None:
    state, machine = LicenseState(0), device(good_clock=True)
    ends_now = rollbacks == 1 and client_time == NOW - 15 * HOUR - 1
    state.expired_since = NOW if ends_now else NOW - 20 * HOUR
    clock_rollback.observe(scene(state, reason="LICENSE_EXPIRED"), machine, client_time, DEFAULT)
    assert machine.rollbacks == rollbacks


@pytest.mark.parametrize("is_known, ranks", [(True, [MEDIUM] * 3), (False, [NOTHING, MEDIUM, MEDIUM])])
def test_a_clock_that_nobody_saw_right_needs_two_readings(ranks: list[int], *, is_known: bool) -> None:
    state, machine = LicenseState(0), device(good_clock=is_known)
    state.expired_since = NOW - DAY
    seen = scene(state, reason="LICENSE_EXPIRED")
    assert [clock_rollback.observe(seen, machine, NOW - 9 * DAY, DEFAULT) for _ in range(3)] == ranks


@pytest.mark.parametrize("now, since", [(100, None), (101, 100)])
def test_a_licence_is_good_to_the_last_second(now: int, since: int | None) -> None:
    state = LicenseState(0)
    state.expires_at = 100
    assert clock_rollback.expiry(state, now) == since


def returns(away: int, *, since_last: int = DAY, **fields: object) -> bool:
    machine = device(networks={9: NOW - away}, returns_at=NOW - since_last, **fields)
    return cloned_hardware_id.move(
        machine, 9, NOW, timing=Timing.UNKNOWN, is_far=False, is_shared=False, thresholds=DEFAULT
    )[0]


@pytest.mark.parametrize("away, counts", [(3 * HOUR, True), (3 * HOUR + 1, False)])
def test_who_is_back_within_three_hours_has_returned(away: int, *, counts: bool) -> None:
    assert returns(away) is counts


@pytest.mark.parametrize("pause, counts", [(900, True), (899, False)])
def test_returns_within_a_quarter_of_an_hour_are_one(pause: int, *, counts: bool) -> None:
    assert returns(HOUR, since_last=pause) is counts


@pytest.mark.parametrize("age, is_restless", [(2 * DAY - 1, True), (2 * DAY, False)])
def test_a_device_is_restless_by_its_first_two_days(age: int, *, is_restless: bool) -> None:
    machine = device(networks={9: NOW - HOUR}, first=NOW - age, returns=600, returns_at=NOW - 900)
    cloned_hardware_id.move(machine, 9, NOW, timing=Timing.UNKNOWN, is_far=False, is_shared=False, thresholds=DEFAULT)
    assert machine.is_restless is is_restless


@pytest.mark.parametrize("gap, timing", [(699, Timing.CLASH), (700, Timing.KEPT), (1399, Timing.KEPT), (1400, None)])
def test_when_a_heartbeat_comes_too_early(gap: int, timing: Timing | None) -> None:
    machine = device(pace=1000, beat=NOW - gap, beat_network=9)
    seen = scene(LicenseState(0), "device.heartbeat")
    assert cloned_hardware_id.keep_time(machine, seen, DEFAULT) == (timing or Timing.UNKNOWN)


@pytest.mark.parametrize(
    "settled, age, is_new", [(0, DAY, False), (1, DAY, True), (1, 7 * DAY - 1, True), (1, 7 * DAY, False)]
)
def test_how_long_a_country_is_new(settled: int, age: int, *, is_new: bool) -> None:
    state = LicenseState(NOW - age - 3 * DAY - settled)
    state.countries["BR"] = NOW - age
    assert impossible_travel.is_new(state, "BR", NOW, DEFAULT) is is_new


@pytest.mark.parametrize("seats, is_looked_at", [(12, True), (13, False)])
def test_large_teams_are_spread_over_the_world(seats: int, *, is_looked_at: bool) -> None:
    state = LicenseState(NOW - 90 * DAY)
    state.max_devices = seats
    impossible_travel.observe(scene(state), device(), "DE", DEFAULT)
    assert bool(state.presences) is is_looked_at


@pytest.mark.parametrize("lived, is_job", [(HOUR, True), (HOUR + 1, False), (0, True)])
def test_who_gives_its_seat_back_within_the_hour_ran_a_job(lived: int, *, is_job: bool) -> None:
    state = LicenseState(NOW - DAY)
    state.devices[1] = device(first=NOW - lived)
    accepting.release(state, 1, "Linux", NOW, DEFAULT)
    assert (state.jobs, state.released_at) == ((1.0, 0) if is_job else (0.0, NOW))


@pytest.mark.parametrize(
    "age, released, parties, weight",
    [
        (5 * DAY - 1, 0, 0, 0),
        (5 * DAY, 0, 0, 35),
        (5 * DAY, NOW - 2 * DAY, 0, 70),
        (5 * DAY, NOW - 2 * DAY - 1, 0, 35),
        (5 * DAY, 0, 2, 100),
        (0, 0, 2, 100),
        (0, 0, 1, 0),
    ],
)
def test_what_a_new_party_weighs(age: int, released: int, parties: int, weight: int) -> None:
    state, machine = LicenseState(NOW - age), device(is_stranger=True)
    state.max_devices, state.released_at, state.parties = 2, released, parties
    reseller_rotation.accept(state, machine, NOW, is_job=False, thresholds=DEFAULT)
    assert machine.weight == weight


@pytest.mark.parametrize("pause, accepted, weight", [(DAY // 2, 2, 50), (DAY // 2 - 1, 2, 0), (DAY, 1, 0)])
def test_what_a_device_in_a_known_network_weighs(pause: int, accepted: int, weight: int) -> None:
    state, machine = LicenseState(NOW - 90 * DAY), device()
    state.max_devices, state.linked_at, state.accepted = 2, NOW - pause, accepted
    reseller_rotation.accept(state, machine, NOW, is_job=False, thresholds=DEFAULT)
    assert machine.weight == weight
