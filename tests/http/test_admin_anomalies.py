"""Anomalies as lists, with filters and pages; and what administrators say to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from api.services import Services
from infra.postgres import Database
from tests.support.client import Client, Reply
from tests.support.cluster import Cluster
from tests.support.patience import running_patiently
from tests.support.service import settings_for
from tests.support.suspicions import guess, record, subject_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOBODYS = "00000000-0000-4000-8000-000000000000"
ANALYTICS = "/api/v1/analytics/anomalies"


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


async def listed(client: Client, **query: Any) -> Reply:
    return await client.admin("GET", f"/anomalies?{urlencode(query)}")


async def ids(client: Client, **query: Any) -> list[str]:
    reply = await listed(client, **query)
    assert reply.status == 200, reply
    return [anomaly["anomaly_id"] for anomaly in reply["anomalies"]]


async def analysed(client: Client, query: str = "", **fields: Any) -> Reply:
    key = await client.new_api_key(allowed_endpoints=[ANALYTICS], **fields)
    return await client.request("GET", f"{ANALYTICS}{query}", x_api_key=key["api_key"])


async def resolve(client: Client, anomaly_id: str, how: str, body: Any = None, **headers: str) -> Reply:
    return await client.admin("POST", f"/anomalies/{anomaly_id}/{how}", body, **headers)


class TestLists:
    async def test_the_shape_and_the_defaults(self, client: Client, database: Database) -> None:
        license = await client.new_license()
        newest_first = [record(database, license) for _ in range(51)][::-1]
        reply = await listed(client, license_id=license["license_id"])
        assert set(reply.body) == {"anomalies", "pagination"}
        assert [anomaly["anomaly_id"] for anomaly in reply["anomalies"]] == newest_first[:50]
        assert reply["pagination"].pop("next_cursor")
        assert reply["pagination"] == {"page": 1, "per_page": 50, "total": 51, "pages": 2}

    async def test_what_an_anomaly_says(self, client: Client, database: Database) -> None:
        license = await client.new_license()
        said: dict[str, Any] = {"kind": "hammering", "severity": "high", "explanation": "Too often."}
        anomaly_id = record(database, license, **said, evidence=("b", "a"))
        (shown,) = (await listed(client, license_id=license["license_id"]))["anomalies"]
        assert shown.pop("anomaly_id") == anomaly_id
        assert shown.pop("found_at") <= shown.pop("recorded_at")
        common = {
            **said,
            "status": "open",
            "license_id": license["license_id"],
            "evidence": ["b", "a"],
            "resolved_at": None,
            "resolved_by": None,
        }
        assert shown == {**common, "address": None, "reason": None}
        (shown,) = (await analysed(client, f"?license_id={license['license_id']}"))["anomalies"]
        assert {name: shown[name] for name in common} == common
        assert set(shown) - set(common) == {"anomaly_id", "found_at", "recorded_at"}

    async def test_pages_by_number(self, client: Client, database: Database) -> None:
        license = await client.new_license()
        newest_first = [record(database, license) for _ in range(5)][::-1]
        pages = [await ids(client, license_id=license["license_id"], page=page, per_page=2) for page in (1, 2, 3, 4)]
        assert pages == [newest_first[:2], newest_first[2:4], newest_first[4:], []]

    async def test_cursors_cover_all_once_though_more_is_found_meanwhile(
        self, client: Client, database: Database
    ) -> None:
        license = await client.new_license()
        newest_first = [record(database, license) for _ in range(7)][::-1]
        query: dict[str, Any] = {"license_id": license["license_id"], "per_page": 3}
        seen: list[str] = []
        while query.get("cursor", "first"):
            reply = await listed(client, **query)
            seen += [anomaly["anomaly_id"] for anomaly in reply["anomalies"]]
            assert reply["pagination"]["total"] == 7
            record(database, license)
            query["cursor"] = reply["pagination"]["next_cursor"]
        assert seen == newest_first

    async def test_a_cursor_is_good_for_its_own_list_only(self, client: Client, database: Database) -> None:
        license = await client.new_license()
        for _ in range(2):
            record(database, license)
        query = {"license_id": license["license_id"], "per_page": 1}
        cursor = (await listed(client, **query))["pagination"]["next_cursor"]
        assert (await listed(client, **query, cursor=cursor)).status == 200
        for other in ({"status": "open"}, {"license_id": NOBODYS}):
            reply = await listed(client, **{**query, **other}, cursor=cursor)
            assert (reply.status, list(reply["details"])) == (400, ["cursor"])
        of_licenses = await client.admin("GET", f"/licenses?cursor={cursor}")
        assert (of_licenses.status, list(of_licenses["details"])) == (400, ["cursor"])

    async def test_filters(self, client: Client, database: Database) -> None:
        license = await client.new_license()
        now = datetime.fromisoformat(license["created_at"])
        made = [
            record(database, license, kind=kind, severity=severity, found_at=now - timedelta(days=days))
            for kind, severity, days in (
                ("hammering", "low", 3),
                ("leaked_key", "medium", 2),
                ("leaked_key", "high", 1),
                ("hammering", "critical", 0),
            )
        ]
        await resolve(client, made[1], "acknowledge")

        async def numbers(**query: Any) -> list[int]:
            found = await ids(client, license_id=license["license_id"], **query)
            return [made.index(anomaly_id) for anomaly_id in found]

        def at(days: int) -> str:
            return (now - timedelta(days=days)).isoformat()

        assert await numbers() == [3, 2, 1, 0]
        assert await numbers(kind="leaked_key") == [2, 1]
        assert [await numbers(min_severity=least) for least in ("low", "medium", "high", "critical")] == [
            [3, 2, 1, 0],
            [3, 2, 1],
            [3, 2],
            [3],
        ]
        assert [await numbers(status=status) for status in ("open", "acknowledged", "dismissed")] == [
            [3, 2, 0],
            [1],
            [],
        ]
        assert await numbers(since=at(2)) == [3, 2, 1]
        assert await numbers(until=at(2)) == [0]
        assert await numbers(since=at(2), until=at(1), kind="leaked_key") == [1]

    @pytest.mark.parametrize(
        "query",
        [
            "kind=spying",
            "min_severity=bad",
            "status=closed",
            "since=yesterday",
            "until=2026-01-01T00:00:00",
            "license_id=LIC-1",
            "per_page=101",
            "page=0",
            "cursor=x",
            "severity=high",
        ],
    )
    async def test_malformed_filters(self, client: Client, query: str) -> None:
        for reply in (await client.admin("GET", f"/anomalies?{query}"), await analysed(client, f"?{query}")):
            assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")
            assert list(reply["details"]) == [query.partition("=")[0]]

    async def test_a_key_bound_to_a_product_sees_nothing_else(self, client: Client, database: Database) -> None:
        product = f"product {uuid4()}"
        own, other = await client.new_license(product=product), await client.new_license(product="other")
        expected = record(database, own)
        hidden = [record(database, other), record(database, None)]
        bound = await analysed(client, product=product)
        assert [anomaly["anomaly_id"] for anomaly in bound["anomalies"]] == [expected]
        assert bound["pagination"]["total"] == 1
        foreign = await analysed(client, f"?license_id={other['license_id']}", product=product)
        assert (foreign.status, foreign["anomalies"]) == (200, [])
        unbound = {anomaly["anomaly_id"] for anomaly in (await analysed(client))["anomalies"]}
        assert unbound >= {expected, *hidden}

    async def test_only_an_api_key_that_was_granted_it_may_list_them(self, client: Client) -> None:
        reply = await client.request("GET", ANALYTICS, x_api_key=client.api_key)
        assert (reply.status, reply["error_code"]) == (403, "ENDPOINT_NOT_ALLOWED")
        reply = await client.admin("GET", "/anomalies", x_admin_api_key="wrong")
        assert (reply.status, reply["error_code"]) == (401, "UNAUTHORIZED")


class TestAnAddress:
    async def test_it_is_shown_to_administrators_until_the_days_key_is_destroyed(
        self, client: Client, services: Services, database: Database
    ) -> None:
        found = await guess(client)
        assert (found["license_id"], found["kind"], found["address"]) == (None, "key_guessing", client.address)
        listed = (await analysed(client, "?kind=key_guessing"))["anomalies"]
        (other,) = [one for one in listed if one["anomaly_id"] == found["anomaly_id"]]
        assert client.address not in str(other)

        with database.connect() as connection:
            query = "SELECT subject_id FROM anomalies WHERE anomaly_id = %s"
            row = connection.execute(query, (found["anomaly_id"],)).fetchone()
        assert row is not None
        destroy(database, services, row["subject_id"])
        gone = await client.admin("GET", f"/anomalies/{found['anomaly_id']}")
        assert gone.body == {**found, "address": None}


class TestWords:
    async def test_an_unknown_anomaly(self, client: Client) -> None:
        for anomaly_id in (NOBODYS, "1", quote("an anomaly")):
            replies = [
                await client.admin("GET", f"/anomalies/{anomaly_id}"),
                await resolve(client, anomaly_id, "acknowledge"),
                await resolve(client, anomaly_id, "dismiss", {"reason": "r"}),
            ]
            assert {(reply.status, reply["error_code"]) for reply in replies} == {(404, "NOT_FOUND")}

    async def test_what_is_no_anomaly_cannot_be_dismissed(self, client: Client) -> None:
        license_id = (await client.new_license())["license_id"]
        reply = await resolve(client, license_id, "dismiss", {"reason": "r"})
        assert (reply.status, reply["error_code"]) == (404, "NOT_FOUND")

    @pytest.mark.parametrize("how, status", [("acknowledge", "acknowledged"), ("dismiss", "dismissed")])
    async def test_a_word_is_kept_and_said_again_changes_nothing(
        self, client: Client, database: Database, how: str, status: str
    ) -> None:
        anomaly_id = record(database, await client.new_license())
        before = (await client.admin("GET", f"/anomalies/{anomaly_id}")).body
        reply = await resolve(client, anomaly_id, how, {"reason": "our own test"})
        assert reply.status == 200
        assert reply["resolved_at"] > before["recorded_at"]
        assert reply.body == {
            **before,
            "status": status,
            "resolved_at": reply["resolved_at"],
            "resolved_by": "admin:default",
            "reason": "our own test",
        }
        again = await resolve(client, anomaly_id, how, {"reason": "another reason"})
        assert (again.status, again.body) == (200, reply.body)
        assert (await client.admin("GET", f"/anomalies/{anomaly_id}")).body == reply.body
        assert events_of(database, anomaly_id) == ["anomaly.detected", "anomaly.resolved"]

    async def test_acknowledging_needs_no_reason(self, client: Client, database: Database) -> None:
        license = await client.new_license()
        for body in (None, {}, {"reason": None}):
            reply = await resolve(client, record(database, license), "acknowledge", body)
            assert (reply.status, reply["status"], reply["reason"]) == (200, "acknowledged", None)

    async def test_what_was_acknowledged_may_be_dismissed_but_not_the_other_way(
        self, client: Client, database: Database
    ) -> None:
        anomaly_id = record(database, await client.new_license())
        assert (await resolve(client, anomaly_id, "acknowledge", {"reason": "asked them"})).status == 200
        dismissed = await resolve(client, anomaly_id, "dismiss", {"reason": "a classroom"})
        assert (dismissed["status"], dismissed["reason"]) == ("dismissed", "a classroom")
        reply = await resolve(client, anomaly_id, "acknowledge", {"reason": "no"})
        assert (reply.status, reply["error_code"]) == (409, "ANOMALY_DISMISSED")
        assert (await client.admin("GET", f"/anomalies/{anomaly_id}")).body == dismissed.body

    @pytest.mark.parametrize(
        "how, body",
        [
            ("dismiss", None),
            ("dismiss", {}),
            ("dismiss", {"reason": ""}),
            ("dismiss", {"reason": " \t "}),
            ("dismiss", {"reason": None}),
            ("dismiss", {"reason": "r" * 1001}),
            ("dismiss", {"reason": 1}),
            ("acknowledge", {"reason": ""}),
            ("acknowledge", {"reason": " "}),
            ("acknowledge", {"reason": "r" * 1001}),
            ("acknowledge", b"[]"),
        ],
    )
    async def test_malformed_words(self, client: Client, database: Database, how: str, body: Any) -> None:
        anomaly_id = record(database, await client.new_license())
        reply = await resolve(client, anomaly_id, how, body)
        assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")
        assert (await client.admin("GET", f"/anomalies/{anomaly_id}"))["status"] == "open"

    async def test_the_longest_reason(self, client: Client, database: Database) -> None:
        reply = await resolve(client, record(database, await client.new_license()), "dismiss", {"reason": "é" * 1000})
        assert (reply.status, reply["reason"]) == (200, "é" * 1000)

    async def test_an_idempotency_key(self, client: Client, database: Database) -> None:
        license, key = await client.new_license(), f"key-{uuid4()}"
        anomaly_id = record(database, license)
        first = await resolve(client, anomaly_id, "acknowledge", {"reason": "a"}, idempotency_key=key)
        await resolve(client, anomaly_id, "dismiss", {"reason": "b"})
        again = await resolve(client, anomaly_id, "acknowledge", {"reason": "a"}, idempotency_key=key)
        assert (again.status, again.body, again.headers["Idempotency-Replayed"]) == (200, first.body, "true")
        other = await resolve(client, anomaly_id, "acknowledge", {"reason": "c"}, idempotency_key=key)
        assert (other.status, other["error_code"]) == (422, "IDEMPOTENCY_KEY_REUSED")

    async def test_a_reason_is_sealed_and_goes_with_its_customers_key(
        self, client: Client, services: Services, database: Database
    ) -> None:
        license = await client.new_license(customer_id=f"customer {uuid4()}")
        first, second = record(database, license), record(database, license)
        assert (await resolve(client, first, "dismiss", {"reason": "they moved"}))["reason"] == "they moved"
        with database.connect() as connection:
            for query in (
                "SELECT reason_sealed AS kept FROM anomalies WHERE anomaly_id = %s",
                "SELECT state AS kept FROM licensing_events WHERE originator_id = %s AND originator_version = 2",
            ):
                row = connection.execute(query, (first,)).fetchone()
                assert row is not None
                assert b"they moved" not in row["kept"]
        destroy(database, services, subject_of(database, license))
        assert (await client.admin("GET", f"/anomalies/{first}"))["reason"] is None
        reply = await resolve(client, second, "dismiss", {"reason": "nobody can keep it now"})
        assert (reply.status, reply["status"], reply["reason"]) == (200, "dismissed", None)


def destroy(database: Database, services: Services, subject_id: UUID) -> None:
    """Destroy a data subject's key."""
    with database.connect() as connection:
        connection.execute("UPDATE data_subjects SET wrapped_key = NULL WHERE subject_id = %s", (subject_id,))
    services.vault.forget(subject_id)


def events_of(database: Database, originator_id: str) -> list[str]:
    with database.connect() as connection:
        query = "SELECT topic FROM licensing_events WHERE originator_id = %s ORDER BY originator_version"
        return [row["topic"] for row in connection.execute(query, (originator_id,)).fetchall()]
