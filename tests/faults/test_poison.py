"""Rows and messages that a worker fails at: tried three times, set aside, applied later; no crash sets any aside."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import pytest

from projections import dead_letters
from projections.dead_letters import DeadLetter
from tests.support.both_logs import BothLogs
from tests.support.client import eventually
from tests.support.cluster import Cluster
from tests.support.event_log import START, append
from tests.support.given import issued, recorded
from tests.support.nursery import Nursery
from tests.support.rabbit import Rabbit
from tests.support.usage import Use
from tests.support.worker_plant import WorkerPlant
from tests.support.workers import are_at_the_end, identify

CRASHES = 20
ATTEMPTS = 3

REFUSING = """
    CREATE SEQUENCE lizenzserver.refusals;
    CREATE FUNCTION lizenzserver.refuse() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
        IF NEW.license_id = '{bad}' THEN PERFORM nextval('lizenzserver.refusals'); RAISE 'no'; END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON lizenzserver.device_days
    FOR EACH ROW EXECUTE FUNCTION lizenzserver.refuse();
"""
"""A view's table does not take one licence's rows, and counts how often it was asked to: undone is only the row."""


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with Nursery(tmp_path_factory.mktemp("logs")) as running:
        yield running


@pytest.fixture
def plant(
    cluster: Cluster, rabbit: Rabbit, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerPlant]:
    database = cluster.new_database()
    identify(database)
    yield WorkerPlant(nursery, rabbit, rabbit.new_host(), tmp_path_factory.mktemp("data"), BothLogs(database))
    cluster.drop(database)


def letters(plant: WorkerPlant) -> list[DeadLetter]:
    """Return what was set aside."""
    with plant.database.connect() as connection:
        return dead_letters.listed(connection)


async def test_a_row_that_fails_is_tried_three_times_set_aside_and_applied_later(plant: WorkerPlant) -> None:
    bad = uuid4()
    with plant.database.connect_owner() as owner:
        owner.execute(REFUSING.format(bad=bad))
    with plant.work("relay"), plant.work("projector") as projector:
        await plant.listens(projector)
        plant.logs.add_uses([Use(START, bad)])
        await plant.logs.followed()
        with plant.database.connect_owner() as owner:
            tries = owner.execute("SELECT last_value FROM lizenzserver.refusals").fetchone()
        assert tries == {"last_value": ATTEMPTS}
        plant.logs.add(100)
        await plant.logs.followed()
        (letter,) = letters(plant)
        assert (letter.consumer, letter.log, letter.position) == ("devices-seen", "usage", 1)
        assert projector.log().count("aside") == 1, "one alert"

        with plant.nursery.run(plant.database, plant.data_dir, "dead", "redrive", "devices-seen") as redriving:
            assert redriving.wait() == 1, "it still fails"
        assert len(letters(plant)) == 1
        with plant.database.connect_owner() as owner:
            owner.execute("DROP TRIGGER refuse ON lizenzserver.device_days")
        with plant.nursery.run(plant.database, plant.data_dir, "dead", "redrive", "devices-seen") as redriving:
            assert redriving.wait() == 0, redriving.log()
        await plant.logs.followed("relay")
        await plant.acks_all("projector")
    assert letters(plant) == []
    plant.logs.assert_applied_once()


@pytest.mark.parametrize("failures", [ATTEMPTS - 1, ATTEMPTS])
async def test_a_handler_that_fails_loses_nothing(plant: WorkerPlant, failures: int) -> None:
    with plant.work("projector", FAIL_AT="view written", FAIL_PASSES=str(failures)) as projector:
        await plant.listens(projector)
        append(plant.database, [recorded(uuid4(), 1, issued())])
        await plant.logs.followed()
        found = [(letter.consumer, letter.log, letter.position) for letter in letters(plant)]
        assert found == ([("seats", "events", 1)] if failures == ATTEMPTS else [])
    with plant.nursery.run(plant.database, plant.data_dir, "dead", "redrive", "seats") as redriving:
        assert redriving.wait() == 0, redriving.log()
    assert letters(plant) == []
    plant.logs.assert_applied_once()


async def test_a_message_whose_handling_fails_comes_again(plant: WorkerPlant) -> None:
    with plant.work("relay"):
        with plant.work("projector", FAIL_AT="word taken", FAIL_PASSES="1000") as projector:
            await plant.listens(projector)
            plant.logs.add(50)
            await plant.logs.followed("relay")
            # The views follow by what is in the logs: messages only say when to look.
            await plant.logs.followed()

            async def has_failed() -> bool:
                return "word taken" in projector.log()

            await eventually(has_failed)
        await plant.acks_all("projector")
    assert letters(plant) == []
    plant.logs.assert_applied_once()


async def test_twenty_crashes_over_a_message_set_nothing_aside(plant: WorkerPlant) -> None:
    with plant.work("relay"):
        with plant.work("projector") as projector:
            await plant.listens(projector)
        plant.logs.add(20)
        await plant.logs.followed("relay")
        for _ in range(CRASHES):
            with plant.work("projector", KILL_AT="word taken") as killed:
                assert await asyncio.to_thread(killed.ended_at, "word taken")
        assert are_at_the_end(plant.database)
        await plant.acks_all("projector")
    assert letters(plant) == []
    plant.logs.assert_applied_once()
