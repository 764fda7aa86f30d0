"""Detection over HTTP: what it finds right now is what the worker records, and what the risk score says about it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from api import detecting
from api.services import Services
from infra.postgres import Database
from tests.http.passing_time import Passing
from tests.support.anomalies import change_thresholds
from tests.support.client import Client, Reply, eventually
from tests.support.cluster import Cluster
from tests.support.patience import running_patiently
from tests.support.service import settings_for
from tests.support.suspicions import hammer, record

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANALYTICS = "/api/v1/analytics"
NOBODYS = "00000000-0000-4000-8000-000000000000"
OF_A_LICENSE = [("POST", "anomalies/detect"), ("GET", "risk-score"), ("GET", "anomalies")]
BURST = 320
"""Requests that are hammering, in no time."""


@pytest.fixture(scope="module")
def database(cluster: Cluster) -> Iterator[Database]:
    fresh = cluster.new_database()
    yield fresh
    cluster.drop(fresh)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(
    database: Database, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Services, Client]]:
    async with running_patiently(settings_for(tmp_path_factory.mktemp("data")), database) as parts:
        yield parts


class Analyst:
    """Asks about anomalies with an API key that was granted them."""

    def __init__(self, client: Client, api_key: str) -> None:
        self.client = client
        self.api_key = api_key

    async def ask(self, method: str, path: str, body: Any = None) -> Reply:
        return await self.client.request(method, ANALYTICS + path, body, x_api_key=self.api_key)

    async def detect(self, license: dict[str, Any]) -> Reply:
        reply = await self.ask("POST", f"/licenses/{license['license_id']}/anomalies/detect")
        assert reply.status == 200, reply
        return reply

    async def risk(self, license: dict[str, Any]) -> Reply:
        reply = await self.ask("GET", f"/licenses/{license['license_id']}/risk-score")
        assert reply.status == 200, reply
        return reply

    async def anomalies(self, license: dict[str, Any]) -> list[dict[str, Any]]:
        reply = await self.ask("GET", f"/licenses/{license['license_id']}/anomalies")
        assert reply.status == 200, reply
        found: list[dict[str, Any]] = reply["anomalies"]
        return found


async def granted(client: Client, **fields: Any) -> Analyst:
    reply = await client.new_api_key(allowed_endpoints=[f"{ANALYTICS}/*"], **fields)
    return Analyst(client, reply["api_key"])


@pytest_asyncio.fixture(loop_scope="module")
async def analyst(client: Client) -> Analyst:
    return await granted(client)


class Hammered:
    """Makes licences whose one device asks often, and waits until the log has it all.

    The worker waits with it for some seconds, or for a later event.
    """

    def __init__(self, client: Client, database: Database) -> None:
        self.client = client
        self.database = database

    async def __call__(self, count: int = BURST) -> dict[str, Any]:
        license = await self.client.new_license()
        await self.client.activate(license, "pc-1")
        await self.again(license, count)
        return license

    async def again(self, license: dict[str, Any], count: int) -> None:
        before = self._stored(license)
        await hammer(self.client, license, "pc-1", count)

        async def stored() -> bool:
            # A slow database gets the rows after the answers.
            return self._stored(license) == before + count

        await eventually(stored)

    def _stored(self, license: dict[str, Any]) -> int:
        with self.database.connect() as connection:
            query = "SELECT count(*) AS rows FROM usage WHERE license_id = %s"
            row = connection.execute(query, (license["license_id"],)).fetchone()
        assert row is not None
        return int(row["rows"])


@pytest.fixture
def hammered(client: Client, database: Database) -> Hammered:
    return Hammered(client, database)


async def recorded(client: Client, analyst: Analyst, license: dict[str, Any]) -> list[dict[str, Any]]:
    """Wait until the worker has recorded something, and return it."""
    # A later event shows the worker that nothing older is to come: it need not wait for that.
    await client.new_license(customer_id="later")

    async def there() -> list[dict[str, Any]]:
        return await analyst.anomalies(license)

    found: list[dict[str, Any]] = await eventually(there, 60)
    return found


@pytest.mark.parametrize("method, path", OF_A_LICENSE)
async def test_an_api_key_with_analytics_is_needed(client: Client, method: str, path: str) -> None:
    path = f"{ANALYTICS}/licenses/{NOBODYS}/{path}"
    for key in (None, "sk_wrong"):
        assert (await client.request(method, path, x_api_key=key))["error_code"] == "UNAUTHORIZED"
    usual = await client.request(method, path, x_api_key=client.api_key)
    assert (usual.status, usual["error_code"]) == (403, "ENDPOINT_NOT_ALLOWED")


@pytest.mark.parametrize("method, path", OF_A_LICENSE)
@pytest.mark.parametrize("license_id", [NOBODYS, "LIC-ABCDEFGH2345", "1"])
async def test_an_unknown_licence(analyst: Analyst, method: str, path: str, license_id: str) -> None:
    reply = await analyst.ask(method, f"/licenses/{license_id}/{path}")
    assert (reply.status, reply["error_code"]) == (404, "LICENSE_NOT_FOUND")


@pytest.mark.parametrize("method, path", OF_A_LICENSE)
async def test_a_key_bound_to_a_product_sees_that_product_only(client: Client, method: str, path: str) -> None:
    own, other = await client.new_license(product="own"), await client.new_license(product="other")
    bound = await granted(client, product="own")
    assert (await bound.ask(method, f"/licenses/{own['license_id']}/{path}")).status == 200
    reply = await bound.ask(method, f"/licenses/{other['license_id']}/{path}")
    assert (reply.status, reply["error_code"]) == (404, "LICENSE_NOT_FOUND")


async def test_detection_needs_no_body(client: Client, analyst: Analyst) -> None:
    path = f"/licenses/{(await client.new_license())['license_id']}/anomalies/detect"
    for body in (None, b"", {}, {"unknown": 1}):
        assert (await analyst.ask("POST", path, body)).status == 200
    assert (await analyst.ask("POST", path, b"{"))["error_code"] == "VALIDATION_ERROR"


async def test_a_licence_about_which_nothing_is_known(client: Client, analyst: Analyst) -> None:
    license = await client.new_license()
    found = (await analyst.detect(license)).body
    assert (found["license_id"], found["anomalies"], found["complete"]) == (license["license_id"], [], True)
    assert found["risk"] == {
        "score": 0.0,
        "band": "none",
        "explanation": "Nothing speaks against this licence.",
    }
    assert found["as_of"]["lag_seconds"] == 0
    risk = (await analyst.risk(license)).body
    assert (risk["risk_score"], risk["risk_level"], risk["factors"]) == (0.0, "none", [])
    assert risk["explanation"] == "Nothing speaks against this licence."
    assert risk["half_life_days"] == 14


async def test_what_is_detected_now_is_what_the_worker_records(
    client: Client, hammered: Hammered, analyst: Analyst
) -> None:
    license = await hammered()
    done = await analyst.detect(license)
    assert BURST <= done["observations"] <= BURST + 2
    (now,) = done["anomalies"]
    assert (now["kind"], now["severity"], now["status"]) == ("hammering", "medium", "open")
    assert (now["license_id"], now["recorded"], now["recorded_at"]) == (license["license_id"], False, None)
    assert "requests within 10 minutes" in now["explanation"]
    assert 1 <= len(now["evidence"]) <= 10
    assert (done["risk"]["score"], done["risk"]["band"]) == (50.0, "medium")
    assert await analyst.anomalies(license) == [], "detection over HTTP has recorded it"

    (later,) = await recorded(client, analyst, license)
    assert later.pop("recorded_at")
    assert later == {name: value for name, value in now.items() if name not in {"recorded", "recorded_at"}}
    done = await analyst.detect(license)
    assert done["observations"] == 0
    assert [(one["anomaly_id"], one["recorded"]) for one in done["anomalies"]] == [(now["anomaly_id"], True)]


async def test_the_risk_score_gives_its_reasons(hammered: Hammered, analyst: Analyst, time_passes: Passing) -> None:
    license = await hammered()
    detected = (await analyst.detect(license))["anomalies"][0]
    risk = (await analyst.risk(license)).body
    assert (risk["risk_score"], risk["risk_level"]) == (50.0, "medium")
    assert risk["explanation"] == (
        "The risk is 50 of 100 (medium): a device sends far more requests than it ever did"
        " (50 points, last seen today)."
    )
    (factor,) = risk["factors"]
    assert abs(datetime.fromisoformat(factor.pop("last_seen")) - datetime.fromisoformat(detected["found_at"])) < (
        timedelta(minutes=1)
    )
    assert factor == {
        "name": "hammering",
        "points": 50.0,
        "explanation": "A device sent 300 requests within 10 minutes, while it is new and has no habits yet.",
        "anomaly_id": detected["anomaly_id"],
        "evidence": detected["evidence"],
    }
    time_passes.by(days=14)
    assert ((await analyst.risk(license))["risk_score"], (await analyst.risk(license))["risk_level"]) == (
        25.0,
        "medium",
    )


async def test_where_what_is_remembered_is_damaged_the_rest_counts(
    client: Client, database: Database, analyst: Analyst
) -> None:
    license = await client.new_license()
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO license_behaviour VALUES (%s, '\\x00')"
            " ON CONFLICT (license_id) DO UPDATE SET state = excluded.state",
            (license["license_id"],),
        )
    assert (await analyst.risk(license))["risk_score"] == 0.0
    assert (await analyst.detect(license))["anomalies"] == []


async def test_a_dismissal_counts_at_once(client: Client, hammered: Hammered, analyst: Analyst) -> None:
    license = await hammered()
    (anomaly,) = await recorded(client, analyst, license)
    assert (await analyst.risk(license))["risk_score"] == 50.0
    reply = await client.admin("POST", f"/anomalies/{anomaly['anomaly_id']}/dismiss", {"reason": "our load test"})
    assert reply.status == 200
    assert (await analyst.risk(license))["risk_score"] == 0.0
    assert (await analyst.detect(license))["anomalies"] == []
    (listed,) = await analyst.anomalies(license)
    assert (listed["status"], listed["resolved_by"]) == ("dismissed", "admin:default")
    assert "reason" not in listed


async def test_other_thresholds_count_from_their_place_in_the_log(
    hammered: Hammered, database: Database, analyst: Analyst
) -> None:
    license = await hammered(40)
    assert (await analyst.detect(license))["anomalies"] == []
    change_thresholds(database, hammer_burst=42)
    try:
        await hammered.again(license, 3)
        (found,) = (await analyst.detect(license))["anomalies"]
        assert found["kind"] == "hammering"
    finally:
        change_thresholds(database)


async def test_only_what_is_open_or_taken_care_of_and_not_old_is_shown(
    client: Client, database: Database, analyst: Analyst
) -> None:
    license = await client.new_license()
    now = datetime.fromisoformat(license["created_at"])
    old = record(database, license, found_at=now - timedelta(days=31))
    first, second, dismissed = (record(database, license) for _ in range(3))
    await client.admin("POST", f"/anomalies/{first}/acknowledge")
    await client.admin("POST", f"/anomalies/{dismissed}/dismiss", {"reason": "nothing"})
    shown = (await analyst.detect(license))["anomalies"]
    assert [(one["anomaly_id"], one["status"]) for one in shown] == [(second, "open"), (first, "acknowledged")]
    assert [one["anomaly_id"] for one in await analyst.anomalies(license)] == [dismissed, second, first, old]


async def test_a_backlog_that_is_too_long_for_one_answer_is_said(
    hammered: Hammered, analyst: Analyst, monkeypatch: pytest.MonkeyPatch
) -> None:
    license = await hammered(10)
    monkeypatch.setattr(detecting, "MOST_ROWS", 5)
    done = await analyst.detect(license)
    assert done["complete"] is False
    assert done["observations"] <= 5
    assert done["as_of"]["lag_seconds"] > 0
    monkeypatch.undo()
    done = await analyst.detect(license)
    assert done["complete"] is True
    assert done["observations"] >= 10
