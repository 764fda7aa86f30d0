from __future__ import annotations

from domain.anomalies.engine import Engine
from domain.anomalies.findings import Finding
from domain.anomalies.observation import Observation
from tests.support.license_history import DAY, HOUR, LICENSE, MINUTE, START, History


def only(findings: list[Finding], kind: str) -> Finding:
    assert {finding.kind for finding in findings} == {kind}
    return findings[0]


def guesses(
    count: int, *, pause: float, address: str = "198.51.100.7", devices: int = 1, block: str | None = None
) -> list[Finding]:
    """Return what is found of an address; with a `block`, each guess comes from another address in it."""
    engine = Engine()
    return [
        finding
        for number in range(count)
        for finding in engine.observe(
            Observation(
                START + number * pause,
                "license.validation.failed",
                f"row {number}",
                hardware_id=f"pc-{number % devices}",
                address=address if block is None else f"{address}{number:x}",
                address_block=block,
                key_hash=f"{number:064x}",
            )
        )
    ]


class TestKeyGuessing:
    def test_many_unknown_keys_from_one_address(self) -> None:
        found = guesses(25, pause=3)[0]
        assert (found.kind, found.severity, found.license_id) == ("key_guessing", "medium", None)
        assert found.address == "198.51.100.7"
        assert found.time == START + 14 * 3
        assert "15 different licence keys" in found.explanation
        assert found.evidence[0] == "row 14"
        assert len(found.evidence) == 10

    def test_slowly_over_the_day(self) -> None:
        assert guesses(30, pause=40 * MINUTE)

    def test_slowly_from_one_device_is_found_in_the_same_morning(self) -> None:
        assert guesses(30, pause=25 * MINUTE)[0].time < START + 4 * HOUR

    def test_with_a_device_made_up_for_each(self) -> None:
        assert guesses(40, pause=3, devices=40)

    def test_from_all_that_one_customer_has_of_ipv6(self) -> None:
        found = guesses(25, pause=3, address="2001:db8:1:2::", block="2001:db8:1:2::/64")[0]
        assert found.address == "2001:db8:1:2::e"

    def test_becomes_worse_with_more(self) -> None:
        assert [finding.severity for finding in guesses(200, pause=1)] == ["medium", "high", "critical"]


class TestLeakedKey:
    def test_unknown_devices_from_many_networks_are_refused(self) -> None:
        history = History(max_devices=1)
        history.office_days("owner", "home", 20)
        for number in range(8):
            history.is_refused(
                10 * DAY + number * 3 * HOUR, f"pirate-{number}", f"net-{number}", "DEVICE_LIMIT_EXCEEDED"
            )
        found = only(history.findings(), "leaked_key")
        assert found.license_id == LICENSE
        assert found.time < START + 10 * DAY + 8 * 3 * HOUR
        assert "4 unknown devices" in found.explanation
        assert found.evidence[0] == "row 164"

    def test_strangers_from_abroad_are_worse(self) -> None:
        history = History(max_devices=1)
        history.office_days("owner", "home", 20)
        for number, country in enumerate(("BR", "IN", "VN")):
            history.is_refused(
                10 * DAY + number * HOUR, f"p-{number}", f"net-{number}", "DEVICE_LIMIT_EXCEEDED", country=country
            )
        only(history.findings(), "leaked_key")

    def test_two_from_two_countries_where_it_never_was_are_enough(self) -> None:
        history = History(max_devices=1)
        history.office_days("owner", "home", 20)
        for number, country in enumerate(("BR", "VN")):
            history.is_refused(
                10 * DAY + number * HOUR, f"p-{number}", f"net-{number}", "DEVICE_LIMIT_EXCEEDED", country=country
            )
        assert only(history.findings(), "leaked_key").time == START + 10 * DAY + HOUR

    def test_strangers_take_free_seats(self) -> None:
        history = History(max_devices=50)
        history.office_days("owner", "home", 20)
        for number in range(12):
            history.activates(10 * DAY + number * 5 * HOUR, f"pirate-{number}", f"net-{number}")
        assert "leaked_key" in history.kinds()


class TestCredentialSharing:
    def test_a_seat_goes_to_and_fro_between_strangers(self) -> None:
        history = History(max_devices=1)
        history.activates(0, "anna", "home-a")
        for turn in range(10):
            giver, taker = ("anna", "ben") if turn % 2 == 0 else ("ben", "anna")
            time = DAY + turn * 10 * HOUR
            history.gives_back(time, giver)
            history.activates(time + MINUTE, taker, f"home-{taker[0]}")
        only(history.findings(), "credential_sharing")

    def test_without_events_about_seats(self) -> None:
        history = History(max_devices=1)
        for turn in range(12):
            history.validates(turn * 8 * HOUR, "anna", "home-a")
            history.validates(turn * 8 * HOUR + 4 * HOUR, "ben", "home-b")
        assert "credential_sharing" in history.kinds()

    def test_by_transfer_to_a_device_that_nobody_knows_yet(self) -> None:
        history = History(max_devices=1)
        history.activates(0, "anna", "home-a")
        history.office_days("anna", "home-a", 3)
        for turn in range(12):
            giver, taker = ("anna", "ben") if turn % 2 == 0 else ("ben", "anna")
            time = (5 + turn / 4) * DAY
            history.observations.append(
                Observation(START + time, "license.transferred", f"t {turn}", LICENSE, taker, from_hardware_id=giver)
            )
            history.beats(time + HOUR, taker, f"home-{taker[0]}")
        assert only(history.findings(), "credential_sharing").time == START + 6.5 * DAY


class TestImpossibleTravel:
    def test_somebody_new_far_away_while_the_owner_works(self) -> None:
        history = History(max_devices=2)
        history.office_days("owner", "home", 12)
        history.activates(8 * DAY + 9.5 * HOUR, "other", "far", country="BR")
        found = only(history.findings(), "impossible_travel")
        assert found.time == START + 8 * DAY + 9.5 * HOUR
        assert "DE and BR" in found.explanation
        assert " km apart" in found.explanation

    def test_with_a_seat_that_an_administrator_moved(self) -> None:
        history = History(max_devices=1)
        history.office_days("owner", "home", 12)
        history.observations.append(
            Observation(
                START + 8 * DAY + 9.5 * HOUR,
                "license.transferred",
                "row 1",
                LICENSE,
                "other",
                from_hardware_id="owner",
            )
        )
        history.beats(8 * DAY + 9.6 * HOUR, "other", "far", country="BR")
        assert only(history.findings(), "impossible_travel").time == START + 8 * DAY + 9.6 * HOUR

    def test_of_one_floating_seat(self) -> None:
        history = History(max_devices=1, floating=True)
        history.office_days("owner", "home", 12)
        history.activates(8 * DAY + 9.5 * HOUR, "other", "far", country="BR")
        only(history.findings(), "impossible_travel")


class TestClonedHardwareId:
    def test_heartbeats_come_too_early_for_one_program(self) -> None:
        history = History(max_devices=1)
        history.office_days("pc", "office", 10)
        history.validates(5 * DAY + 9.2 * HOUR, "pc", "elsewhere")
        for hour in range(10, 17):
            history.beats(5 * DAY + (hour + 0.2) * HOUR, "pc", "elsewhere")
        found = only(history.findings(), "cloned_hardware_id")
        assert found.time < START + 5 * DAY + 14 * HOUR
        assert "heartbeats from one, 60 minutes apart, come those from another" in found.explanation

    def test_that_moves_to_ever_new_networks(self) -> None:
        history = History(max_devices=1)
        history.office_days("pc", "office", 10)
        for hour in range(10, 17):
            history.beats(5 * DAY + (hour + 0.6) * HOUR, "pc", f"carrier-{hour}")
            history.beats(5 * DAY + (hour + 0.75) * HOUR, "pc", f"carrier-{hour + 20}")
        assert only(history.findings(), "cloned_hardware_id").time == START + 5 * DAY + 14 * HOUR

    def test_without_heartbeats(self) -> None:
        history = History(max_devices=1)
        for step in range(10 * 24):
            history.validates(step * HOUR, "pc", "office")
            if step >= 5 * 24:
                history.validates((step + 0.5) * HOUR, "pc", "elsewhere")
        found = only(history.findings(), "cloned_hardware_id")
        assert START + 5 * DAY < found.time < START + 6 * DAY
        assert "goes back and forth between 2 networks" in found.explanation

    def test_one_id_in_two_places_at_once(self) -> None:
        history = History(max_devices=1)
        history.office_days("pc", "office", 10)
        for day in range(5, 9):
            for hour in range(9, 17):
                history.beats(day * DAY + (hour + 0.5) * HOUR, "pc", "elsewhere")
        found = only(history.findings(), "cloned_hardware_id")
        assert START + 5 * DAY < found.time < START + 6 * DAY

    def test_is_found_sooner_between_continents(self) -> None:
        times = []
        for country in ("DE", "JP"):
            history = History(max_devices=1)
            history.office_days("pc", "office", 10)
            for hour in range(9, 17):
                history.beats(5 * DAY + (hour + 0.5) * HOUR, "pc", "elsewhere", country=country)
            times.append(only(history.findings(), "cloned_hardware_id").time)
        assert times[1] < times[0]


class TestResellerRotation:
    def test_every_day_new_customers_take_the_seats(self) -> None:
        history = History(max_devices=3)
        history.activates(0, "customer-0", "net-0")
        for day in range(1, 30):
            history.activates(day * DAY, f"customer-{day}", f"net-{day}")
            history.validates(day * DAY + 5 * HOUR, f"customer-{day}", f"net-{day}")
            history.gives_back(day * DAY + 20 * HOUR, f"customer-{day}")
        found = [finding for finding in history.findings() if finding.kind == "reseller_rotation"]
        assert found[0].time < START + 10 * DAY
        assert "3 seats" in found[0].explanation

    def test_from_one_shop(self) -> None:
        history = History(max_devices=2)
        for day in range(30):
            history.activates(day * DAY, f"customer-{day}", "shop")
            history.gives_back(day * DAY + 20 * HOUR, f"customer-{day}")
        assert history.kinds() == {"reseller_rotation"}


class TestHammering:
    def test_a_script_asks_without_a_pause(self) -> None:
        history = History()
        history.office_days("pc", "office", 5)
        for number in range(800):
            history.validates(5 * DAY + number * 10, "pc", "office")
        found = only(history.findings(), "hammering")
        assert found.time < START + 5 * DAY + HOUR
        assert "its own most" in found.explanation

    def test_at_a_low_rate_for_hours(self) -> None:
        history = History()
        history.office_days("pc", "office", 5)
        for number in range(600):
            history.validates(5 * DAY + number * 45, "pc", "office")
        assert history.kinds() == {"hammering"}


class TestClockRollback:
    def test_a_clock_goes_back_into_the_term(self) -> None:
        history = History(expires_at=10 * DAY)
        for day in range(10):
            history.validates(day * DAY, "pc", "home", client_time=day * DAY)
        history.is_refused(11 * DAY, "pc", "home", "LICENSE_EXPIRED", client_time=11 * DAY)
        history.is_refused(12 * DAY, "pc", "home", "LICENSE_EXPIRED", client_time=5 * DAY)
        found = only(history.findings(), "clock_rollback")
        assert found.time == START + 12 * DAY
        assert "5.0 days before the expiry" in found.explanation

    def test_where_the_terms_say_nothing_of_the_expiry(self) -> None:
        history = History()
        history.validates(0, "pc", "home", client_time=0)
        history.is_refused(11 * DAY, "pc", "home", "LICENSE_EXPIRED", client_time=11 * DAY)
        history.is_refused(12 * DAY, "pc", "home", "LICENSE_EXPIRED", client_time=9 * DAY)
        only(history.findings(), "clock_rollback")
