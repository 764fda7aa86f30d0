"""What must stay quiet: each test is a way in which honest people look odd."""

from __future__ import annotations

import pytest

from domain.anomalies.engine import Engine
from domain.anomalies.observation import Observation
from tests.support.license_history import DAY, HOUR, MINUTE, START, History


def quiet(history: History) -> None:
    assert history.findings() == []


def test_a_laptop_between_home_train_and_office() -> None:
    history = History(max_devices=1)
    for day in range(30):
        history.validates(day * DAY + 7 * HOUR, "laptop", "home")
        for minute in range(0, 50, 10):
            history.beats(day * DAY + 8 * HOUR + minute * MINUTE, "laptop", f"mobile-{(day + minute) % 7}")
        history.validates(day * DAY + 9 * HOUR, "laptop", "office")
        for hour in range(10, 18):
            history.beats(day * DAY + hour * HOUR, "laptop", "office")
        history.validates(day * DAY + 19 * HOUR, "laptop", "home")
    quiet(history)


def test_a_traveller_whose_colleagues_stay() -> None:
    history = History(max_devices=3)
    history.office_days("traveller", "office", 8)
    history.office_days("colleague", "office", 20)
    history.office_days("traveller", "hotel", 5, first=9, country="US")
    history.office_days("traveller", "office", 5, first=15)
    quiet(history)


def test_a_vpn_that_is_switched_on_and_off() -> None:
    history = History(max_devices=2)
    for day in range(20):
        history.validates(day * DAY + 8 * HOUR, "desktop", "home")
        history.validates(day * DAY + 9 * HOUR, "laptop", "home")
        history.validates(day * DAY + 11 * HOUR, "laptop", "vpn", country="US")
        history.validates(day * DAY + 11.1 * HOUR, "desktop", "home")
        history.validates(day * DAY + 16 * HOUR, "laptop", "home")
    quiet(history)


def test_bad_wifi_and_a_telephone() -> None:
    history = History(max_devices=1)
    for day in range(10):
        for step in range(20):
            network = "home" if step % 2 else f"carrier-{(day * 7 + step) % 24}"
            history.validates(day * DAY + 9 * HOUR + step * 20 * MINUTE, "laptop", network)
    quiet(history)


def test_an_office_with_two_lines() -> None:
    history = History(max_devices=5)
    for day in range(20):
        for step in range(40):
            history.beats(day * DAY + 9 * HOUR + step * 12 * MINUTE, f"pc-{step % 4}", f"line-{(step // 4) % 2}")
    quiet(history)


def test_a_replaced_and_reimaged_device() -> None:
    history = History(max_devices=1)
    history.activates(0, "old", "home")
    history.office_days("old", "home", 10)
    for number in range(1, 4):
        time = (9 + number) * DAY
        history.is_refused(time, f"new-{number}", "home", "DEVICE_LIMIT_EXCEEDED")
        history.gives_back(time + HOUR, "old" if number == 1 else f"new-{number - 1}")
        history.activates(time + 2 * HOUR, f"new-{number}", "home")
    quiet(history)


def test_two_machines_of_one_person_on_one_seat() -> None:
    history = History(max_devices=1)
    history.activates(0, "laptop", "home")
    for day in range(20):
        history.validates(day * DAY + 9 * HOUR, "laptop", "office")
        history.validates(day * DAY + 18 * HOUR, "laptop", "home")
        history.gives_back(day * DAY + 19 * HOUR, "laptop")
        history.activates(day * DAY + 19.1 * HOUR, "desktop", "home")
        history.gives_back(day * DAY + 22 * HOUR, "desktop")
        history.activates(day * DAY + 22.1 * HOUR, "laptop", "home")
    quiet(history)


def test_a_floating_team_over_the_world() -> None:
    history = History(max_devices=4, floating=True)
    for day in range(20):
        for person in range(9):
            country = ("DE", "US", "JP")[person % 3]
            time = day * DAY + (8 + person % 5) * HOUR
            if person % 4 == 3:
                history.is_refused(time, f"pc-{person}", f"home-{person}", "DEVICE_LIMIT_EXCEEDED", country=country)
            history.activates(time + HOUR, f"pc-{person}", f"home-{person}", country=country)
            history.gives_back(time + 5 * HOUR, f"pc-{person}")
    quiet(history)


def test_a_team_with_a_member_abroad_from_the_beginning() -> None:
    history = History(max_devices=5)
    for person in range(4):
        history.office_days(f"pc-{person}", "office", 20)
    history.office_days("remote", "home-in-brazil", 20, country="BR")
    quiet(history)


def test_ci_machines_round_the_clock() -> None:
    history = History(max_devices=3)
    for step in range(30 * 24 * 4):
        for machine in range(2):
            history.validates(step * 15 * MINUTE + machine, f"ci-{machine}", f"cloud-{machine}", os="Ubuntu 24.04")
    quiet(history)


@pytest.mark.parametrize("gives_back", [True, False], ids=["that give their seat back", "that just end"])
@pytest.mark.parametrize("os", ["Ubuntu 24.04", "Debian 12"])
def test_short_lived_ci_machines_anywhere_in_a_cloud(os: str, *, gives_back: bool) -> None:
    history = History(max_devices=10)
    for job in range(400):
        time = job * 2 * HOUR
        history.activates(time, f"job-{job}", f"cloud-{job}", country="US", os=os)
        history.validates(time + 10 * MINUTE, f"job-{job}", f"cloud-{job}", country="US", os=os)
        if gives_back:
            history.gives_back(time + 20 * MINUTE, f"job-{job}", os=os)
    quiet(history)


def test_short_lived_machines_of_an_unknown_system_that_give_their_seat_back() -> None:
    history = History(max_devices=10)
    for job in range(400):
        history.activates(job * 2 * HOUR, f"job-{job}", f"cloud-{job}", os=None)
        history.gives_back(job * 2 * HOUR + 20 * MINUTE, f"job-{job}", os=None)
    quiet(history)


def test_a_retry_storm_after_an_outage() -> None:
    history = History(max_devices=2)
    history.office_days("pc", "office", 5)
    for number in range(120):
        history.validates(5 * DAY + number * 8, "pc", "office")
    quiet(history)


def test_a_release_for_which_a_ci_works_more() -> None:
    history = History()
    for step in range(10 * 24 * 6):
        history.validates(step * 10 * MINUTE, "ci", "cloud", os="Ubuntu 24.04")
    for step in range(24 * 12):
        history.validates(10 * DAY + step * 3 * MINUTE, "ci", "cloud", os="Ubuntu 24.04")
    quiet(history)


@pytest.mark.parametrize("reads", [-20_000 * DAY, -3_000 * DAY], ids=["1971", "years ago"])
def test_a_dead_clock_battery_after_the_expiry(reads: float) -> None:
    history = History(expires_at=10 * DAY)
    history.validates(0, "pc", "home", client_time=0)
    for day in range(11, 20):
        history.is_refused(day * DAY, "pc", "home", "LICENSE_EXPIRED", client_time=reads)
    quiet(history)


def test_a_clock_that_was_wrong_before_the_expiry() -> None:
    history = History(expires_at=10 * DAY)
    for day in range(10):
        history.validates(day * DAY, "pc", "home", client_time=(day - 30) * DAY)
    for day in range(11, 20):
        history.is_refused(day * DAY, "pc", "home", "LICENSE_EXPIRED", client_time=(day - 30) * DAY)
    quiet(history)


def test_a_clock_in_a_wrong_time_zone() -> None:
    history = History(expires_at=10 * DAY)
    for step in range(60):
        type = "license.validated" if step < 20 else "license.validation.failed"
        time = step * 12 * HOUR
        history.add(
            time, type, "pc", "home", reason="LICENSE_EXPIRED" if step >= 20 else None, client_time=time - 12 * HOUR
        )
    quiet(history)


def test_a_late_renewal() -> None:
    history = History(expires_at=10 * DAY)
    for day in range(10):
        history.validates(day * DAY, "pc", "home", client_time=day * DAY)
    for day in range(10, 14):
        history.is_refused(day * DAY + HOUR, "pc", "home", "LICENSE_EXPIRED", client_time=day * DAY + HOUR)
    for day in range(14, 30):
        history.validates(day * DAY, "pc", "home", client_time=day * DAY)
    for day in range(30, 40):
        history.validates(day * DAY, "pc", "home", client_time=5 * DAY)
    quiet(history)


def test_the_first_devices_of_a_new_licence() -> None:
    history = History(max_devices=20)
    for number in range(20):
        history.is_refused(number * HOUR, f"pc-{number}", f"home-{number}", "DEVICE_NOT_ACTIVATED")
        history.activates(number * HOUR + MINUTE, f"pc-{number}", f"home-{number}")
        history.office_days(f"pc-{number}", f"home-{number}", 5, first=1)
    quiet(history)


def test_a_classroom_with_a_new_image() -> None:
    history = History(max_devices=25)
    for number in range(25):
        history.activates(number * MINUTE, f"old-{number}", "school")
        history.gives_back(20 * DAY + number * MINUTE, f"old-{number}")
        history.activates(20 * DAY + 2 * HOUR + number * MINUTE, f"new-{number}", "school")
    quiet(history)


def test_many_people_who_mistype_behind_one_address() -> None:
    engine = Engine()
    for person in range(60):
        for attempt in range(3):
            found = engine.observe(
                Observation(
                    START + person * 8 * HOUR + attempt * MINUTE,
                    "license.validation.failed",
                    f"row {person}-{attempt}",
                    address="203.0.113.9",
                    key_hash=f"{person}-{attempt}",
                )
            )
            assert found == []


def test_a_deleted_licence_s_key_that_is_tried_for_weeks() -> None:
    engine = Engine()
    for number in range(3000):
        seen = Observation(
            START + number * 300,
            "license.validation.failed",
            f"row {number}",
            address="203.0.113.9",
            key_hash="the one",
        )
        assert engine.observe(seen) == []


def test_own_devices_that_are_first_seen_on_the_way_and_then_at_home() -> None:
    history = History(max_devices=1)
    history.office_days("pc", "home", 20)
    for number in range(8):
        history.is_refused(8 * DAY + number * 5 * HOUR, f"own-{number}", f"way-{number}", "DEVICE_LIMIT_EXCEEDED")
        history.is_refused(8 * DAY + number * 5 * HOUR + HOUR, f"own-{number}", "home", "DEVICE_LIMIT_EXCEEDED")
    quiet(history)


def test_a_new_device_behind_the_vpn_that_another_one_has_used_for_long() -> None:
    history = History(max_devices=3)
    history.office_days("desktop", "home", 20)
    for day in range(20):
        history.validates(day * DAY + 19 * HOUR, "laptop", "home")
        history.validates(day * DAY + 20 * HOUR, "laptop", "vpn", country="US")
    history.activates(10 * DAY + 9.5 * HOUR, "tablet", "vpn", country="US")
    quiet(history)


def test_a_telephone_s_network_that_is_another_one_each_time() -> None:
    history = History(max_devices=1)
    for day in range(10):
        for step in range(36):
            network = "home" if step % 2 else f"carrier-{day * 36 + step}"
            history.validates(day * DAY + 7 * HOUR + step * 20 * MINUTE, "laptop", network)
    quiet(history)


def test_a_program_that_starts_again_and_again_for_a_quarter_of_an_hour() -> None:
    history = History(max_devices=1)
    history.office_days("pc", "office", 5)
    for burst in range(6):
        for number in range(100):
            history.validates(5 * DAY + burst * 2 * HOUR + number * 9, "pc", "office")
    quiet(history)


@pytest.mark.parametrize("told", ["macOS 15", None], ids=["told", "not told"])
def test_refused_ci_machines_where_there_are_too_many(told: str | None) -> None:
    history = History(max_devices=5)
    for job in range(200):
        history.activates(job * 2 * HOUR, f"job-{job}", f"cloud-{job}", os="macOS 15")
        history.gives_back(job * 2 * HOUR + 20 * MINUTE, f"job-{job}", os=told)
        if job > 20:
            history.is_refused(
                job * 2 * HOUR + MINUTE, f"late-{job}", f"other-{job}", "DEVICE_LIMIT_EXCEEDED", os="macOS 15"
            )
    quiet(history)


def test_a_school_day_on_which_many_mistype() -> None:
    engine = Engine()
    for student in range(26):
        seen = Observation(
            START + student * MINUTE,
            "license.validation.failed",
            f"row {student}",
            hardware_id=f"pc-{student}",
            address="203.0.113.9",
            key_hash=f"{student}",
        )
        assert engine.observe(seen) == []


def test_an_administrator_who_tries_a_list_of_old_keys() -> None:
    engine = Engine()
    for number in range(13):
        seen = Observation(
            START + number * 5 * MINUTE,
            "license.validation.failed",
            f"row {number}",
            hardware_id="pc",
            address="203.0.113.9",
            key_hash=f"{number}",
        )
        assert engine.observe(seen) == []


def test_a_vpn_that_is_on_every_other_hour_under_a_running_program() -> None:
    history = History(max_devices=1)
    history.office_days("laptop", "home", 5)
    for day in range(5, 20):
        history.validates(day * DAY + 8 * HOUR, "laptop", "home")
        for half_hour in range(1, 28):
            network, country = ("vpn", "US") if half_hour // 2 % 2 else ("home", "DE")
            history.beats(day * DAY + (8 + half_hour / 2) * HOUR, "laptop", network, country=country)
    quiet(history)


def test_an_always_running_machine_with_both_address_families() -> None:
    history = History(max_devices=1)
    for step in range(20 * 48):
        history.beats(step * HOUR / 2, "pc", "198.51.100" if step % 3 else "2001:db8:1::")
    quiet(history)


def test_a_program_that_starts_again_wherever_its_laptop_is() -> None:
    history = History(max_devices=1)
    history.office_days("laptop", "home", 5)
    for day in range(5, 20):
        for move, network in enumerate(("home", "cafe", "home", "cafe")):
            start = day * DAY + (9 + 0.6 * move) * HOUR
            history.validates(start, "laptop", network)
            history.beats(start + 0.5 * HOUR, "laptop", network)
        for hour in range(13, 20):
            history.beats(day * DAY + hour * HOUR, "laptop", "cafe")
    quiet(history)


def test_a_weekly_job_that_asks_once_a_minute_for_hours() -> None:
    history = History(max_devices=1)
    history.office_days("pc", "office", 28)
    for week in range(4):
        for number in range(300):
            history.validates(week * 7 * DAY + 2 * HOUR + number * 45, "pc", "office")
    quiet(history)


def test_a_program_that_is_busy_now_and_then_and_never_stops() -> None:
    history = History(max_devices=1)
    for slot in range(8 * 6):
        for number in range(40 if slot % 4 == 1 else 4):
            history.validates(slot * 600 + number * 14, "pc", "office")
    quiet(history)


def test_a_home_worker_who_travels_and_tries_a_tablet_while_another_one_works() -> None:
    history = History(max_devices=2)
    history.office_days("anna", "home-a", 25)
    history.office_days("ben", "home-b", 8)
    history.is_refused(9 * DAY, "tablet", "hotel", "DEVICE_LIMIT_EXCEEDED", country="US")
    history.office_days("ben", "hotel", 5, first=9, country="US")
    history.office_days("ben", "home-b", 5, first=15)
    quiet(history)


def test_build_machines_that_come_again_under_their_old_names() -> None:
    history = History(max_devices=3)
    for day in range(20):
        for job in range(2):
            time = day * DAY + job * 5 * HOUR
            history.activates(time, "runner", f"cloud-{day}-{job}", os="macOS 15")
            history.gives_back(time + 20 * MINUTE, "runner", os="macOS 15")
    for number in range(10):
        history.activates(20 * DAY + number * HOUR, f"large-{number}", f"cloud-{number}", os="macOS 15")
    quiet(history)


def test_virtual_desktops_that_are_made_anew_each_day() -> None:
    history = History(max_devices=3, floating=True)
    for day in range(40):
        for person in range(4):
            time = day * DAY + (8 + person) * HOUR
            history.activates(time, f"desktop-{day}-{person}", "data centre")
            history.gives_back(time + 6 * HOUR, f"desktop-{day}-{person}")
    quiet(history)
