"""The made-up fleet: plausible, the same again, and only where nothing real is."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from cli.demo_fleet import fleet
from cli.demo_usage import usage
from tests.cli.conftest import CommandLine
from tests.support.client import Client, eventually

NOW = datetime(2026, 3, 18, 15, 30, tzinfo=UTC)  # a Wednesday


async def test_every_report_has_something_to_show(cli: CommandLine, client: Client) -> None:
    made = (await asyncio.to_thread(cli, "demo", "--licenses", "60", "--json")).json

    async def caught_up() -> Any:
        statistics = (await client.admin("GET", "/statistics")).body
        return None if statistics["as_of"]["lag_seconds"] else statistics

    statistics = await eventually(caught_up)
    assert statistics["total_licenses"] == made["licenses"] == 60
    assert 0 < statistics["active_devices"] < statistics["total_devices"] == made["devices"]
    for name in ("expired_licenses", "inactive_licenses", "test_licenses", "failed_validations_24h"):
        assert statistics[name] > 0, name
    listed = (await client.admin("GET", "/licenses?per_page=100"))["licenses"]
    busy = max(listed, key=lambda one: one["current_devices"])
    assert all(one["current_devices"] <= one["max_devices"] for one in listed)
    use = await client.admin("GET", f"/licenses/{busy['license_id']}/usage?days=14")
    assert len([day for day in use["daily"] if day["validations"]]) > 7
    devices = (await client.admin("GET", f"/licenses/{busy['license_id']}/devices"))["devices"]
    assert devices[0]["device_name"]
    assert devices[0]["os_info"]["name"]


async def test_it_keeps_away_from_what_is_real(cli: CommandLine, client: Client) -> None:
    await client.new_license()
    refused = await asyncio.to_thread(cli, "demo", "--licenses", "5")
    assert refused.code == 1
    assert "there are 1 licences already" in refused.err
    assert refused.err.count("\n") == 1
    assert (await asyncio.to_thread(cli, "demo", "--licenses", "5", "--yes")).code == 0
    assert (await client.admin("GET", "/statistics"))["total_licenses"] == 6


def test_the_same_seed_makes_the_same_fleet() -> None:
    assert fleet(3, NOW, 40) == fleet(3, NOW, 40) != fleet(4, NOW, 40)
    licenses = fleet(3, NOW, 40)
    assert usage(licenses, 3, NOW) == usage(fleet(3, NOW, 40), 3, NOW)


def test_use_follows_office_hours_and_weekends() -> None:
    rows = [row for row in usage(fleet(1, NOW, 100), 1, NOW) if row.device and not row.device.runs_always]
    assert all(row.license for row in rows)
    local = [row.at + row.license.utc_offset for row in rows if row.license]
    by_hour = Counter(moment.hour for moment in local)
    assert sum(by_hour[hour] for hour in range(8, 18)) > 0.85 * len(rows)
    by_day = Counter(moment.weekday() for moment in local)
    assert max(by_day[5], by_day[6]) < 0.25 * min(by_day[day] for day in range(5))
    assert rows == sorted(rows, key=lambda row: row.at)
    assert all(row.at < NOW for row in rows)


def test_nobody_uses_a_seat_that_he_does_not_hold() -> None:
    for row in usage(fleet(2, NOW, 100), 2, NOW):
        if row.device is not None:
            assert row.device.activated_at < row.at
            assert row.device.ended_at is None or row.at < row.device.ended_at
