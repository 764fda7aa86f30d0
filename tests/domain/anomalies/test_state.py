from __future__ import annotations

from random import Random
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.anomalies import state as states
from domain.anomalies.engine import Engine
from domain.anomalies.findings import Finding
from domain.anomalies.observation import LicenseTerms, Observation
from domain.anomalies.state import Alert, Device, Factor, LicenseState, Network, Presence, Proof, Stranger, dumps
from tests.support.license_history import DAY, HOUR, LICENSE, START

LIMIT = 4096
TYPES = ("license.validated", "license.validation.failed", "device.heartbeat", "license.activated")
COUNTRIES = ("DE", "US", "BR", "JP", "AU", "ZA", "IN", "FR", "CN", None)


def attack(seed: int, length: int, *, devices: int, networks: int, pause: float) -> list[Observation]:
    """Make up use that exercises everything at once: several licences, unknown keys, all kinds of rows."""
    random = Random(seed)
    time, seen = START, []
    for _ in range(length):
        time += random.expovariate(1 / pause)
        type = random.choice((*TYPES, *TYPES, "device.deactivated", "license.transferred"))
        known = random.random() < 0.9
        seen.append(
            Observation(
                time,
                type if known else "license.validation.failed",
                str(UUID(int=random.getrandbits(128), version=4)),
                f"license-{random.randrange(2)}" if known else None,
                f"device {random.randrange(devices)}",
                random.choice((f"net {random.randrange(networks)}", f"2001:db8:{random.randrange(networks):x}::")),
                address=None if known else f"198.51.100.{random.randrange(2)}",
                country=random.choice(COUNTRIES),
                os=random.choice(("Windows 11", "Ubuntu 24.04", None)),
                reason=random.choice(("DEVICE_LIMIT_EXCEEDED", "LICENSE_EXPIRED")) if "failed" in type else None,
                client_time=time - random.choice((0.0, 3 * DAY, 3000 * DAY)) if random.random() < 0.5 else None,
                key_hash=None if known else f"{random.randrange(400)}",
                from_hardware_id=f"device {random.randrange(devices)}" if type == "license.transferred" else None,
            )
        )
    return seen


def begin() -> Engine:
    engine = Engine()
    for number in range(2):
        terms = LicenseTerms(max_devices=1 + 2 * number, floating=False, expires_at=START + 5 * DAY)
        engine.set_terms(f"license-{number}", terms)
    return engine


def restarted(engine: Engine) -> Engine:
    """Store all that an engine knows, and load it into a new one."""
    new = Engine()
    for license_id in reversed(list(engine.licenses())):
        new.load_license(license_id, engine.save_license(license_id))
    for address in engine.addresses():
        new.load_address(address, engine.save_address(address))
    return new


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    restarts=st.sets(st.integers(0, 1499), max_size=20),
    devices=st.integers(1, 60),
    networks=st.integers(1, 60),
)
def test_restarts_change_no_finding(seed: int, restarts: set[int], devices: int, networks: int) -> None:
    rows = attack(seed, 1500, devices=devices, networks=networks, pause=600)
    engine, undisturbed = begin(), begin()
    found: list[Finding] = []
    expected: list[Finding] = []
    for number, row in enumerate(rows):
        if number in restarts:
            engine = restarted(engine)
        found += engine.observe(row)
        expected += undisturbed.observe(row)
    assert found == expected
    assert expected


@pytest.mark.parametrize("devices", [3, 25, 5000])
@pytest.mark.parametrize("networks", [6, 40, 100_000])
def test_a_licence_under_attack_needs_at_most_4_kb(devices: int, networks: int) -> None:
    engine = begin()
    largest = 0
    for number, row in enumerate(attack(7, 6000, devices=devices, networks=networks, pause=200)):
        engine.observe(row)
        if number % 50 == 0:
            largest = max(largest, *(len(engine.save_license(license_id)) for license_id in engine.licenses()))
            kept = [states.loads_license(engine.save_license(license_id)) for license_id in engine.licenses()]
            moves = (sum(len(device.networks) for device in state.devices.values()) for state in kept)
            assert max(moves) <= states.MOVES
    assert 0 < largest <= LIMIT


def test_no_state_is_larger_than_4_kb() -> None:
    time, tag, count = 2**32 - 1, 2**32 - 1, 60_000
    device = Device(
        group=count, first=time, last=time, network=tag, country="DE", countries=2, returned_to=tag, returns=count,
        returns_at=time, is_restless=True, beat=time, beat_network=0xFFFF, pace=0xFFFF, started=True,
        slot=time // 600, slot_count=count, run=count, peak=count, weight=100,
        rollbacks=100,
    )  # fmt: skip
    full = LicenseState(
        first=time, max_devices=100_000, expires_at=time, expired_since=time, next_group=count, parties=tag,
        accepted=tag, rotation=0.1, rotation_at=time, linked_at=time, jobs=0.1, jobs_at=time, jobs_os=tag,
        released_at=time, sharing=0.1, sharing_at=time, holder=count, holder_country="DE", awaited=tag, travel=0.1,
        travel_at=time,
        departed=b"x" * 2 * states.DEPARTED,
    )  # fmt: skip
    full.devices = {tag - number: device for number in range(states.DEVICES)}
    full.networks = {tag - number: Network(count, time, count) for number in range(states.NETWORKS)}
    full.strangers = [Stranger(time, tag, count, 200)] * states.STRANGERS
    full.presences = {str(n): Presence(time, tag, count, (0.1, 0.1)) for n in range(states.PRESENCES)}
    full.countries = {f"{n:02}": time for n in range(states.COUNTRIES)}
    for kind in range(1, 8):
        full.alerts[kind] = Alert(time, 3)
        full.factors[kind] = Factor(0.1, time)
        full.proofs[kind] = Proof(time, [b"x" * 16] * states.EVIDENCE)
    moves = states.MOVES * 10  # a tag and a time
    assert len(dumps(full)) + moves <= LIMIT


def test_ids_come_back_as_they_were() -> None:
    ids = [str(UUID(int=5)), "line 123", "sixteen bytes ab"]
    assert states.unpacked(map(states.packed, ids)) == tuple(reversed(ids))


def test_a_forgotten_address_of_many_is_the_one_quiet_for_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domain.anomalies.engine.MAX_ADDRESSES", 10)
    engine = Engine()
    for number in range(25):
        engine.observe(
            Observation(
                START + number * HOUR,
                "license.validation.failed",
                "row",
                address=f"192.0.2.{number}",
                key_hash="key",
            )
        )
    assert len(list(engine.addresses())) <= 10
    assert "192.0.2.24" in engine.addresses()
    assert LICENSE not in engine.licenses()
