"""`status`, `dead`, `rebuild`, `check` and `work`, as an operator uses them."""

from __future__ import annotations

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from commands.event_mapper import decoder
from infra.postgres import Database
from projections import dead_letters
from projections.following import Follower
from projections.registry import ASYNCHRONOUS
from tests.cli.conftest import CommandLine
from tests.support.client import eventually
from tests.support.event_log import START, append, lives_of_licenses
from tests.support.given import activated, issued, recorded
from tests.support.orders import activate, carry_out, issue, running_writer
from tests.support.usage import Use, store
from tests.support.workers import WorkerProcess, holder, identify

BAD = UUID(int=13)


def follow(database: Database) -> None:
    with database.connect_worker("test") as connection:
        for projection in ASYNCHRONOUS:
            Follower(projection, decoder()).catch_up(connection)


def as_owner(database: Database, statement: str) -> None:
    with database.connect_owner() as owner:
        owner.execute(statement)


def poison(database: Database) -> None:
    """Make the seats of one licence indigestible, and let the projections meet it."""
    as_owner(
        database,
        "CREATE FUNCTION lizenzserver.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF NEW.license_id = '{BAD}' THEN RAISE 'not this one'; END IF; RETURN NEW; END $$;"
        " CREATE TRIGGER refuse BEFORE INSERT ON lizenzserver.seat_changes"
        " FOR EACH ROW EXECUTE FUNCTION lizenzserver.refuse()",
    )
    append(database, [*lives_of_licenses(50), recorded(BAD, 1, issued()), recorded(BAD, 2, activated("pc-13"))])
    follow(database)


def test_status_shows_who_is_behind(cli: CommandLine, database: Database) -> None:
    append(database, lives_of_licenses(50))
    store(database, [Use(START, UUID(int=1))])
    follow(database)
    append(database, [recorded(BAD, 1, issued(), occurred_at=START)])
    found = {state["consumer"]: state for state in cli("status", "--json").json["consumers"]}
    assert found["seats"]["event_position"] == 50
    assert found["seats"]["lag_seconds"] > 1000
    assert found["usage"]["event_position"] is None, "it does not follow that log"
    assert found["usage"]["lag_seconds"] == 0
    assert "seats" in cli("status").out


async def test_status_is_a_health_check(cli: CommandLine, database: Database, tmp_path: Path) -> None:
    idle = await asyncio.to_thread(cli, "status", "projector")
    assert (idle.code, idle.err) == (1, "error: no process does the work of the projector\n")
    identify(database)
    with WorkerProcess(database, "projector", tmp_path) as process:

        async def working() -> Any:
            return holder(database, "projector") == process.pid

        await eventually(working)
        assert (await asyncio.to_thread(cli, "status", "projector")).code == 0
        process.send(signal.SIGSTOP)
        append(database, [recorded(BAD, 1, issued(), occurred_at=START)])
        behind = await asyncio.to_thread(cli, "status", "projector", "--longest-lag", "30")
        assert behind.code == 1
        assert "seats is" in behind.err
        process.send(signal.SIGCONT)


def test_status_tells_of_each_worker(cli: CommandLine, database: Database) -> None:
    append(database, [recorded(BAD, 1, issued(), occurred_at=datetime.now(UTC) - timedelta(seconds=100))])
    for worker in ("relay", "projector", "anomaly", "notary"):
        assert cli("status", worker).err == f"error: no process does the work of the {worker}\n"
    with database.connect() as connection:
        connection.execute("INSERT INTO consumers VALUES ('anomaly', 0, 0)")
        connection.execute(
            "INSERT INTO leases VALUES ('anomaly', gen_random_uuid(), 'there:1', now() + interval '1 minute')"
        )
        assert cli("status", "anomaly", "--longest-lag", "200").code == 0
        behind = cli("status", "anomaly")
        assert behind.code == 1
        assert "anomaly is 10" in behind.err
        connection.execute("UPDATE consumers SET event_position = 1")
    assert cli("status", "anomaly").code == 0


def test_dead_letters_are_listed_shown_and_redriven(cli: CommandLine, database: Database) -> None:
    assert cli("dead", "list", "--json").json == {"dead_letters": []}
    identify(database)
    poison(database)
    letters = cli("dead", "list", "--json").json["dead_letters"]
    assert [(letter["consumer"], letter["log"], letter["position"]) for letter in letters] == [
        ("seats", "events", 51),
        ("seats", "events", 52),
    ]
    shown = cli("dead", "show", "seats", "events", "52").json
    assert "not this one" in shown["dead_letter"]["error"]
    assert (shown["event"]["type"], shown["event"]["data"]["hardware_id"]) == ("license.activated", "pc-13")
    assert "sealed" not in str(shown)
    assert cli("dead", "show", "seats", "events", "7").code == 1

    again = cli("dead", "redrive", "seats")
    assert again.code == 1
    assert "events position 51 failed again: not this one" in again.err
    as_owner(database, "DROP TRIGGER refuse ON lizenzserver.seat_changes")
    assert cli("dead", "redrive", "seats", "--position", "52").code == 0
    assert len(cli("dead", "list", "--json").json["dead_letters"]) == 1
    assert cli("dead", "redrive", "seats").err == "1 applied, 0 failed\n"
    assert cli("dead", "list", "--json").json == {"dead_letters": []}
    assert cli("check", "seats", "--json").json["differing_rows"] == {"seat_changes": 0, "seat_days": 0}


def test_redriving_what_is_not_there(cli: CommandLine) -> None:
    assert "there is no consumer nobody" in cli("dead", "redrive", "nobody").err
    assert cli("dead", "redrive", "seats", "--position", "3").code == 1


def test_what_detection_goes_without_is_forgotten_not_redriven(cli: CommandLine, database: Database) -> None:
    append(database, lives_of_licenses(50))
    with database.connect() as connection:
        for consumer, position in (("anomaly", 7), ("anomaly", 9), ("anomaly", 11), ("seats", 9)):
            dead_letters.set_aside(connection, consumer, "events", position, "ValueError: no")
    refused = cli("dead", "redrive", "anomaly")
    assert refused.code == 1
    assert "`lizenzserver dead forget anomaly`" in refused.err
    assert cli("dead", "forget", "anomaly", "--position", "9").err == "1 forgotten\n"
    assert cli("dead", "forget", "anomaly", "--position", "9").code == 1
    assert left(cli) == [("anomaly", 7), ("anomaly", 11), ("seats", 9)]
    assert cli("dead", "forget", "anomaly").err == "2 forgotten\n"
    assert cli("dead", "forget", "anomaly").err == "0 forgotten\n"
    refused = cli("dead", "forget", "seats")
    assert refused.code == 1
    assert "`lizenzserver dead redrive`" in refused.err
    assert left(cli) == [("seats", 9)]


def left(cli: CommandLine) -> list[tuple[str, int]]:
    return [(letter["consumer"], letter["position"]) for letter in cli("dead", "list", "--json").json["dead_letters"]]


@pytest.mark.parametrize("name", [projection.name for projection in ASYNCHRONOUS])
def test_check_finds_and_rebuild_mends(cli: CommandLine, database: Database, name: str) -> None:
    append(database, lives_of_licenses(50))
    store(database, [Use(START, UUID(int=1)), Use(START, UUID(int=2), "pc-2")])
    follow(database)
    table = next(projection.tables[-1] for projection in ASYNCHRONOUS if projection.name == name)
    as_owner(database, f"DELETE FROM lizenzserver.{table}")
    wrong = cli("check", name)
    assert wrong.code == 1
    assert f"`lizenzserver rebuild {name}`" in wrong.err
    rebuilt = cli("rebuild", name)
    assert (rebuilt.code, rebuilt.err) == (0, f"{name} is rebuilt\n")
    assert cli("check", name).code == 0


async def test_rebuilding_what_is_written_inline(cli: CommandLine, database: Database) -> None:
    async with running_writer(database) as writer:
        await carry_out(writer, issue(BAD), activate(BAD, "a"))
        as_owner(database, "DELETE FROM lizenzserver.devices")
        assert cli("check", "licenses").code == 1
        assert cli("rebuild", "licenses").code == 0
        await carry_out(writer, activate(BAD, "b"))
    differing = cli("check", "licenses", "--json").json["differing_rows"]
    assert differing == {"licenses": 0, "devices": 0, "api_keys": 0, "anomalies": 0}


def test_a_projection_that_there_is_not(cli: CommandLine) -> None:
    for command in ("rebuild", "check"):
        assert "choose from licenses, usage, devices-seen, seats" in cli(command, "nothing").err


def test_a_relay_needs_a_broker(cli: CommandLine) -> None:
    result = cli("work", "relay")
    assert (result.code, result.err) == (1, "error: AMQP_URL is not set: there is no broker to relay to\n")
