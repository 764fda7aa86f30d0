"""A process whose machine's clock is an hour off, and is set back under it: it decides by the database's time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest

from infra.postgres import Database
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.invariants import check_invariants
from tests.support.processes import ServerProcess, client_of

HOUR = 3600
AGREE = timedelta(seconds=2)


class Clocks(NamedTuple):
    """A process that goes right, one whose clock is a file, and that file."""

    database: Database
    right: ServerProcess
    wrong: ServerProcess
    file: Path


@pytest.fixture(scope="module", params=[HOUR, -HOUR], ids=["ahead", "behind"])
def clocks(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Clocks]:
    database = cluster.new_database()
    with TemporaryDirectory(prefix="lizenzserver-clocks-") as folder:
        file = Path(folder) / "clock"
        file.write_text(str(request.param))
        right = ServerProcess(database, Path(folder)).wait_ready()
        wrong = ServerProcess(database, Path(folder), "wrong_clock", WRONG_CLOCK=str(file))
        try:
            yield Clocks(database, right, wrong.wait_ready(), file)
        finally:
            right.stop()
            wrong.stop()


async def test_nothing_expires_or_revives_early_and_history_is_in_order(clocks: Clocks) -> None:
    async with client_of(clocks.right) as right, client_of(clocks.wrong) as wrong:
        wrong.api_key = right.api_key = (await right.new_api_key())["api_key"]
        began_at = datetime.now(UTC)
        alive = await with_end(right, timedelta(minutes=30))
        ended = await with_end(right, timedelta(minutes=30))
        tokens = await right.tokens(alive, "pc")
        await end_at(right, ended, timedelta(minutes=-30))
        # As it started; set by two hours the other way; and where it belongs.
        first = float(clocks.file.read_text())
        for number, seconds in enumerate((first, -first, 0)):
            clocks.file.write_text(str(seconds))
            for client in (wrong, right):
                assert (await client.validate(alive, "pc")).status == 200
                refused = await client.validate(ended, "pc")
                assert (refused.status, refused["error_code"]) == (403, "LICENSE_EXPIRED")
                assert (await client.bearer("/api/v1/auth/verify", tokens["access_token"], {})).status == 200
                assert (await client.activate(alive, f"{number}-{client is wrong}")).status == 201
            fresh = await wrong.tokens(alive, "pc")
            assert (await right.bearer("/api/v1/auth/verify", fresh["access_token"], {})).status == 200
    log = check_invariants(clocks.database)
    moments = [event.occurred_at for _, event in log]
    assert began_at - AGREE < min(moments)
    assert max(moments) < datetime.now(UTC) + AGREE
    assert all(later > earlier - AGREE for earlier, later in pairwise(moments))
    with clocks.database.connect() as connection:
        rows = connection.execute("SELECT occurred_at FROM usage").fetchall()
    assert rows
    assert all(began_at - AGREE < row["occurred_at"] < datetime.now(UTC) + AGREE for row in rows)


async def with_end(client: Client, span: timedelta) -> dict[str, Any]:
    """Make a licence that ends so long from now, with a device, and have it remembered."""
    license = await client.new_license(max_devices=20)
    await end_at(client, license, span)
    assert (await client.activate(license, "pc")).status == 201
    assert (await client.validate(license, "pc")).status == 200
    return license


async def end_at(client: Client, license: dict[str, Any], span: timedelta) -> None:
    end = (datetime.now(UTC) + span).isoformat().replace("+00:00", "Z")
    changed = await client.admin("PATCH", f"/licenses/{license['license_id']}", {"expires_at": end})
    assert changed.status == 200, changed


async def test_the_correction_is_told(clocks: Clocks) -> None:
    ahead = {HOUR: -HOUR, -HOUR: HOUR}
    async with client_of(clocks.wrong) as client, client.session.get(f"{client.base}/metrics") as response:
        (line,) = [one for one in (await response.text()).splitlines() if one.startswith("lizenzserver_clock_offset")]
    assert min(abs(float(line.split()[-1]) - offset) for offset in ahead.values()) < AGREE.total_seconds()
