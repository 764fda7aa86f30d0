"""Logs that earlier programs have written are read by today's: every view, every answer, every step of the history.

A file in tests/commands/stored_logs is the whole log of a small service of its time, and what it answered. None may
ever be changed. Whoever changes what is stored adds one: `python -m tests.support.stored_log FILE`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from cli.core import compose_core
from commands.event_mapper import decoder
from commands.recorder import EVENTS_LOCK
from infra.postgres import Database
from infra.settings import Settings
from projections.inline_views import InlineViews
from projections.projection import Projection
from projections.rebuild import Rebuild
from tests.support.checker import check
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.patience import running_patiently
from tests.support.stored_log import answers_of, restore, settings

STORED = Path(__file__).parents[1] / "commands" / "stored_logs"
NAMES = sorted(path.stem for path in STORED.iterdir())

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module", params=NAMES)
def log(request: pytest.FixtureRequest) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((STORED / f"{request.param}.json").read_text("utf-8"))
    return read


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, log: dict[str, Any]
) -> AsyncIterator[tuple[Database, Client]]:
    """Give a service over what was recorded, its views made anew from it."""
    database, chosen = cluster.new_database(), settings(tmp_path_factory.mktemp("data"))
    restore(database, log)
    make_views(database, chosen)
    async with running_patiently(chosen, database) as (_, client):
        yield database, client
    cluster.drop(database)


def make_views(database: Database, chosen: Settings) -> None:
    core = compose_core(chosen, database)
    views = InlineViews(core.emails)
    inline = Projection(name="licenses", tables=InlineViews.TABLES, apply_events=views.apply)
    with database.connect_owner() as owner:
        making = Rebuild(owner, inline, decoder(), EVENTS_LOCK)
        making.begin()
        making.fold(lambda _: None)
        making.swap()
    core.application.close()


async def test_it_is_answered_as_it_was(served: tuple[Database, Client], log: dict[str, Any]) -> None:
    answered = await answers_of(served[1])
    for name, told in log["answers"].items():
        assert answered[name] == told, name


async def test_its_history_leads_to_what_was_answered(served: tuple[Database, Client], log: dict[str, Any]) -> None:
    _, client = served
    end = log["events"][-1][0]
    for license in log["answers"]["licenses"]:
        one = f"/licenses/{license['license_id']}"
        then = (await client.admin("GET", f"{one}?as_of={end}")).body
        assert {name: then[name] for name in license} == license
        devices = await client.admin("GET", f"{one}/devices?as_of={end}")
        assert devices["devices"] == log["answers"]["devices"][license["license_id"]]
        told = (await client.admin("GET", f"{one}/history?limit=1000"))["events"]
        own = [json.loads(state) for _, id, _, _, state in log["events"] if id == license["license_id"]]
        assert [event["event_id"] for event in told] == [state["event_id"] for state in own]
        assert [event.get("undoes") for event in told] == [state["data"].get("undoes") for state in own]
        assert [event["cause"]["request_id"] for event in told] == [state["cause"]["request_id"] for state in own]


async def test_its_life_goes_on(served: tuple[Database, Client], log: dict[str, Any]) -> None:
    """Today's decisions are taken on yesterday's events; then all views are what the checker's own fold says."""
    database, client = served
    for license in log["answers"]["licenses"]:
        one = f"/licenses/{license['license_id']}"
        await client.admin("PATCH", one, {"is_active": True, "max_devices": 50})
        assert (await client.activate(license, "today's")).status in {201, 403}
        assert (await client.admin("DELETE", one)).status == 200
    report = await asyncio.to_thread(check, database, patience=20.0)
    assert report.holds, str(report)
