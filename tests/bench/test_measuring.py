from __future__ import annotations

import urllib.error
from itertools import count

import pytest

from bench import bodies
from bench.baselines import crud_tables, load_decide_save
from bench.fill import license_key
from bench.lab import Lab
from bench.load import WrongAnswers, run_wrk
from bench.measures import validate_cold
from bench.measures.validate import usage_rows
from bench.sides import ask
from tests.support.service import PATIENT

SEATS = 2

_devices = count()


def activation(number: int) -> dict[str, str]:
    return {**bodies.validation(number), "hardware_id": f"new-{next(_devices)}"}


def test_a_measure_compares_us_with_its_baseline(lab: Lab) -> None:
    result = validate_cold.measure(lab)
    rate, latency = result.comparisons
    assert len(rate.ours) == len(rate.base) == len(rate.ratios) == lab.sizes.rounds
    assert min(*rate.ours, *rate.base, *latency.ours, *latency.base) > 0
    assert rate.verdict != "-"


def test_filled_licences_are_served_and_their_use_is_stored(lab: Lab) -> None:
    database = lab.filled_database(lab.sizes.licences, SEATS)
    with lab.api(database, USAGE_WAIT_MS=PATIENT["USAGE_WAIT_MS"]) as api:
        valid, _ = ask(api, bodies.VALIDATE, bodies.key_header(lab), bodies.validation(7))
        assert valid["limits"] == {"max_devices": SEATS, "current_devices": 1}
        assert ask(api, bodies.TOKEN, bodies.key_header(lab), bodies.token_request(7))[0]["access_token"]
        assert usage_rows(database) == 1
        activated, _ = ask(api, bodies.ACTIVATE, bodies.key_header(lab), activation(8))
        assert activated["limits"] == {"max_devices": SEATS, "current_devices": 2}
        with pytest.raises(urllib.error.HTTPError, match="DEVICE_LIMIT_EXCEEDED"):
            ask(api, bodies.ACTIVATE, bodies.key_header(lab), activation(8))


def test_the_crud_server_does_what_ours_does(lab: Lab) -> None:
    database = lab.new_database()
    crud_tables.prepare(database.url, lab.sizes.licences, lab.api_key, SEATS)
    with lab.baseline("crud_server", database.url) as crud:
        valid, _ = ask(crud, bodies.VALIDATE, bodies.key_header(lab), bodies.validation(7))
        assert valid["limits"] == {"max_devices": SEATS, "current_devices": 1}
        assert ask(crud, bodies.ACTIVATE, bodies.key_header(lab), activation(8))[0]["limits"]["current_devices"] == 2
        for headers, asked, status in (
            (bodies.key_header(lab), activation(8), 409),
            (bodies.key_header(lab), activation(lab.sizes.licences), 404),
            ({"X-API-Key": "sk_wrong"}, activation(9), 401),
        ):
            with pytest.raises(urllib.error.HTTPError) as refused:
                ask(crud, bodies.ACTIVATE, headers, asked)
            assert refused.value.code == status
    with database.connect_owner() as connection:
        assert connection.execute("SELECT count(*) AS rows FROM usage").fetchall() == [{"rows": 1}]


def test_load_decide_save_keeps_to_the_seats(lab: Lab) -> None:
    database = lab.new_database()
    load_decide_save.prepare(database.url, 3, seats=1)
    with load_decide_save.application(database.url) as app:
        app.activate(license_key(2), "one")
        with pytest.raises(load_decide_save.NoSeat):
            app.activate(license_key(2), "another")


def test_answers_that_are_not_2xx_make_no_figure(lab: Lab) -> None:
    requests = bodies.pool(lab, "nowhere", "/nowhere", [({}, {"license_key": "x", "hardware_id": "y"})])
    with lab.baseline("empty_aiohttp") as server, pytest.raises(WrongAnswers, match="refused"):
        run_wrk(server.port, requests, 2, 1)
