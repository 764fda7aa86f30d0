from __future__ import annotations

import pytest

from bench import bodies
from bench.fan_out import INLINE
from bench.fill import lengthen, license_id
from bench.invariants import check_seats, events_of
from bench.lab import Lab
from bench.load import WrongAnswers
from bench.measures import growth_events, listing, rebuild
from bench.registry import MEASURES
from bench.scrape import answers, gauge
from bench.sides import ask, send_each
from commands.event_mapper import decoder
from commands.recorder import EVENTS_LOCK
from infra.postgres import Database
from projections.rebuild import Rebuild

LENGTH = 24
LONG = range(3, 5)


def events(database: Database, number: int) -> int:
    with database.connect() as connection:
        (row,) = connection.execute(
            "SELECT count(*) AS events FROM licensing_events WHERE originator_id = %s", (license_id(number),)
        ).fetchall()
    return int(row["events"])


def test_long_histories_are_as_the_service_would_have_made_them(lab: Lab) -> None:
    database = lab.filled_database(lab.sizes.licences)
    for length in (LENGTH // 2, LENGTH):
        lengthen(lab.settings, database, LONG, length)
    assert [events(database, number) for number in (2, 3, 4, 5)] == [2, LENGTH, LENGTH, 2]
    with database.connect_owner() as owner:
        check = Rebuild(owner, INLINE, decoder(), EVENTS_LOCK)
        check.begin(afresh=True)
        assert set(check.compare(lambda _: None).values()) == {0}
        check.drop()
    key = bodies.key_header(lab)
    with lab.api(database) as api:
        valid, _ = ask(api, bodies.VALIDATE, key, bodies.validation(LONG[0]))
        assert valid["limits"]["current_devices"] == 1
        new = {**bodies.validation(LONG[0]), "hardware_id": "new"}
        assert ask(api, bodies.ACTIVATE, key, new)[0]["limits"]["current_devices"] == 2
        assert answers(api) == {200: 2, 201: 1}


def test_each_request_of_a_file_is_sent_and_its_verdict_is_cached(lab: Lab) -> None:
    database = lab.filled_database(lab.sizes.licences)
    asked = [(bodies.key_header(lab), bodies.validation(number)) for number in range(lab.sizes.licences)]
    with lab.api(database) as api:
        send_each(lab, api, bodies.pool(lab, "each", bodies.VALIDATE, asked), len(asked), 4)
        assert gauge(api, "standings_cached") == lab.sizes.licences


def test_the_last_page_by_a_cursor_holds_the_oldest_licences(lab: Lab) -> None:
    database = lab.filled_database(lab.sizes.licences)
    with lab.api(database) as api:
        query = {**listing.COMMON, "cursor": listing._cursor(lab, database, listing.COMMON, last=True)}
        page = listing._got(lab, api, query)
        shown = [one["license_id"] for one in page["licenses"]]
        # Number 0 is of another edition.
        assert shown == [str(license_id(number)) for number in range(listing.PER_PAGE, 0, -1)]
        listing._check(listing.LAST, page)
        with pytest.raises(WrongAnswers):
            listing._check(listing.FIRST, page)


def test_a_seat_too_many_and_an_answer_without_an_event_are_found(lab: Lab) -> None:
    database = lab.filled_database(lab.sizes.licences)
    before = events_of(database)
    assert "S and L hold" in check_seats(database, before, 0)
    with pytest.raises(WrongAnswers, match="L: 1 activations"):
        check_seats(database, before, 1)
    with database.connect_owner() as owner:
        owner.execute("UPDATE lizenzserver.licenses SET max_devices = 0 WHERE license_id = %s", (license_id(7),))
    with pytest.raises(WrongAnswers, match="S: 1 licences"):
        check_seats(database, before, 0)


def test_histories_are_of_licences_of_their_own() -> None:
    groups = growth_events._groups((10, 1_000, 10_000))
    assert {length: len(part) for length, part in groups.items()} == {2: 500, 10: 200, 1_000: 50, 10_000: 10}
    numbers = [number for part in groups.values() for number in part]
    assert numbers == list(range(760))


def test_a_rebuild_is_compared_with_reading_its_log(lab: Lab) -> None:
    views, counts = rebuild.measure(lab).comparisons
    assert min(*views.ours, *views.base, *counts.ours, *counts.base) > 0
    assert views.verdict != "-"


def test_every_measure_says_what_it_is_about() -> None:
    assert all(measure.about for measure in MEASURES.values())
    assert {"processes", "list", "growth-licences", "growth-events", "memory", "start", "relay"} <= set(MEASURES)
