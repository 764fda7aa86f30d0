from __future__ import annotations

import msgspec
import pytest

from domain.anomalies.countries import COUNTRIES, kilometres, kilometres_between
from domain.anomalies.engine import Engine
from domain.anomalies.findings import Finding
from domain.anomalies.observation import LicenseTerms, Observation, network_tag
from domain.anomalies.thresholds import Thresholds
from tests.support.license_history import DAY, LICENSE, START, History


def hammer(history: History, day: int, pause: float, count: int = 250) -> None:
    for number in range(count):
        history.validates(day * DAY + number * pause, "pc", "office")


def play(engine: Engine, history: History) -> list[Finding]:
    return [finding for seen in history.in_order() for finding in engine.observe(seen)]


class TestSuppression:
    def test_an_alert_is_given_once_a_week(self) -> None:
        history = History()
        for day in (0, 1, 3, 5, 8, 9):
            hammer(history, day, 10)
        assert [finding.time // DAY - START // DAY for finding in history.findings()] == [0, 8]

    def test_again_where_it_becomes_worse(self) -> None:
        history = History()
        hammer(history, 0, 10)
        hammer(history, 1, 10)
        hammer(history, 2, 4, 400)
        assert [finding.severity for finding in history.findings()] == ["medium", "high"]

    def test_a_dismissed_one_stays_quiet_unless_it_becomes_worse(self) -> None:
        engine, first, later, worse = Engine(), History(), History(), History()
        hammer(first, 0, 10)
        assert len(play(engine, first)) == 1
        engine.dismiss(LICENSE, None, "hammering", "medium", START + DAY)
        assert engine.risk(LICENSE, START + DAY).score == 0
        hammer(later, 20, 10)
        assert play(engine, later) == []
        assert engine.risk(LICENSE, START + 21 * DAY).score == 0
        hammer(worse, 21, 5, 400)
        assert [finding.severity for finding in play(engine, worse)] == ["high"]

    def test_who_dismisses_a_milder_one_says_nothing_of_the_worse(self) -> None:
        engine, history = Engine(), History()
        hammer(history, 0, 10)
        hammer(history, 1, 4, 400)
        assert [finding.severity for finding in play(engine, history)] == ["medium", "high"]
        risk = engine.risk(LICENSE, START + 2 * DAY).score
        engine.dismiss(LICENSE, None, "hammering", "medium", START + 2 * DAY)
        assert engine.risk(LICENSE, START + 2 * DAY).score == risk > 0
        engine.dismiss(LICENSE, None, "hammering", "high", START + 2 * DAY)
        assert engine.risk(LICENSE, START + 2 * DAY).score == 0


class TestTerms:
    def test_events_change_them(self) -> None:
        engine, history = Engine(), History()
        terms = LicenseTerms(expires_at=START + 5 * DAY)
        engine.observe(Observation(START, "license.issued", "event 1", LICENSE, terms=terms))
        history.validates(DAY, "pc", "home", client_time=DAY)
        history.is_refused(6 * DAY, "pc", "home", "LICENSE_EXPIRED", client_time=4 * DAY)
        assert [finding.kind for finding in play(engine, history)] == ["clock_rollback"]

    def test_a_renewal_ends_the_expiry(self) -> None:
        engine, history, cheat = Engine(), History(), History()
        engine.set_terms(LICENSE, LicenseTerms(expires_at=START + 5 * DAY))
        history.validates(DAY, "pc", "home", client_time=DAY)
        play(engine, history)
        renewed = LicenseTerms(expires_at=START + 500 * DAY)
        engine.observe(Observation(START + 6 * DAY, "license.updated", "event 2", LICENSE, terms=renewed))
        cheat.validates(7 * DAY, "pc", "home", client_time=4 * DAY)
        assert play(engine, cheat) == []

    def test_a_seat_that_is_transferred_to_and_fro_is_shared(self) -> None:
        engine, history = Engine(), History(max_devices=1)
        history.validates(0, "anna", "home-a")
        history.validates(1, "ben", "home-b")
        found = play(engine, history)
        for turn in range(12):
            giver, taker = ("ben", "anna") if turn % 2 == 0 else ("anna", "ben")
            found += engine.observe(
                Observation(
                    START + DAY + turn * DAY / 3,
                    "license.transferred",
                    f"event {turn}",
                    LICENSE,
                    taker,
                    from_hardware_id=giver,
                )
            )
        assert {finding.kind for finding in found} == {"credential_sharing"}

    def test_unknown_types_say_nothing(self) -> None:
        assert Engine().observe(Observation(START, "anomaly.detected", "event 1", LICENSE)) == []

    def test_a_threshold_of_another_name_is_refused(self) -> None:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"hammer_flor": 3}, Thresholds)


class TestRisk:
    def test_explains_itself_and_fades(self) -> None:
        engine, history = Engine(), History()
        hammer(history, 0, 10)
        play(engine, history)
        risk = engine.risk(LICENSE, START + DAY)
        assert (risk.band, [factor.name for factor in risk.factors]) == ("medium", ["hammering"])
        assert "a device sends far more requests than it ever did" in risk.explanation
        assert engine.risk(LICENSE, START + 14 * DAY).score == pytest.approx(25, abs=0.2)
        assert engine.risk(LICENSE, START + 365 * DAY).band == "none"

    def test_reasons_add_up_to_less_than_a_hundred(self) -> None:
        engine, history = Engine(), History(expires_at=0.5 * DAY)
        history.validates(0, "pc", "office", client_time=0)
        hammer(history, 0, 10)
        history.is_refused(DAY, "pc", "office", "LICENSE_EXPIRED", client_time=0)
        engine.set_terms(LICENSE, LicenseTerms(expires_at=START + 0.5 * DAY))
        play(engine, history)
        risk = engine.risk(LICENSE, START + DAY)
        assert len(risk.factors) == 2
        assert 70 < risk.score < 100

    def test_nothing_is_found_about_an_unknown_licence(self) -> None:
        risk = Engine().risk("nobody's", START)
        assert (risk.score, risk.band, risk.factors) == (0, "none", ())


class TestNetworks:
    @pytest.mark.parametrize("network", ["192.0.2", b"\x04hash", b"hash", b"", "somewhere"])
    def test_others_are_even(self, network: str | bytes) -> None:
        assert network_tag(network) % 2 == 0

    @pytest.mark.parametrize("network", ["2001:db8:0::", b"\x06hash", b"\x06"])
    def test_those_of_ipv6_are_odd(self, network: str | bytes) -> None:
        assert network_tag(network) % 2 == 1

    def test_different_ones_differ(self) -> None:
        assert len({network_tag(bytes([family, number])) for family in (4, 6) for number in range(200)}) == 400


class TestCountries:
    @pytest.mark.parametrize("one, other", [("DE", "FR"), ("US", "CA"), ("BR", "AR"), ("DE", "DE"), ("DE", "??")])
    def test_neighbours_are_not_far_apart(self, one: str, other: str) -> None:
        assert kilometres_between(one, other) == 0

    @pytest.mark.parametrize("one, other", [("DE", "US"), ("FR", "JP"), ("GB", "BR"), ("CN", "US")])
    def test_others_are(self, one: str, other: str) -> None:
        assert 3000 < kilometres_between(one, other) == kilometres_between(other, one) < 13_000

    def test_between_cities(self) -> None:
        assert kilometres((52.52, 13.40), (48.14, 11.58)) == pytest.approx(504, abs=5)

    def test_the_table_is_of_this_world(self) -> None:
        assert len(COUNTRIES) > 240
        assert all(abs(lat) <= 90 and abs(lon) <= 180 and 0 < radius < 2500 for lat, lon, radius in COUNTRIES.values())
