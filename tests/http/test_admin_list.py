"""The list of licences: every filter, page numbers and cursors."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import pytest

from tests.http.passing_time import Passing
from tests.support.client import Client, Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def listed(client: Client, **query: Any) -> Reply:
    return await client.admin("GET", f"/licenses?{urlencode(query)}")


async def ids(client: Client, **query: Any) -> list[str]:
    reply = await listed(client, **query)
    assert reply.status == 200, reply
    return [license["license_id"] for license in reply["licenses"]]


async def made(client: Client, count: int, **fields: Any) -> tuple[str, list[str]]:
    """Make licences of a new customer; return its id and theirs, newest first."""
    customer = f"customer {uuid4()}"
    rows = [{"customer_id": customer, **fields}] * count
    reply = await client.admin("POST", "/licenses/bulk-create", {"licenses": rows})
    return customer, [license["license_id"] for license in reversed(reply["licenses"])]


class TestPages:
    async def test_the_shape_and_the_defaults(self, client: Client) -> None:
        customer, newest_first = await made(client, 51)
        reply = await listed(client, customer_id=customer)
        assert set(reply.body) == {"licenses", "pagination"}
        assert [license["license_id"] for license in reply["licenses"]] == newest_first[:50]
        cursor = reply["pagination"].pop("next_cursor")
        assert cursor
        assert reply["pagination"] == {"page": 1, "per_page": 50, "total": 51, "pages": 2}

    async def test_pages_cover_all_once(self, client: Client) -> None:
        customer, newest_first = await made(client, 10)
        pages = [await ids(client, customer_id=customer, page=page, per_page=4) for page in (1, 2, 3, 4)]
        assert pages == [newest_first[:4], newest_first[4:8], newest_first[8:], []]

    async def test_the_last_page_has_no_cursor(self, client: Client) -> None:
        customer, _ = await made(client, 4)
        for query in ({"page": 2, "per_page": 2}, {"per_page": 4}, {"per_page": 100}):
            reply = await listed(client, customer_id=customer, **query)
            assert reply["pagination"]["next_cursor"] is None, query

    async def test_nothing_found(self, client: Client) -> None:
        reply = await listed(client, customer_id="nobody at all")
        assert reply["licenses"] == []
        assert reply["pagination"] == {"page": 1, "per_page": 50, "total": 0, "pages": 0, "next_cursor": None}

    async def test_cursors_cover_all_once_though_licences_are_added_meanwhile(self, client: Client) -> None:
        customer, newest_first = await made(client, 12)
        seen: list[str] = []
        query: dict[str, Any] = {"customer_id": customer, "per_page": 3}
        while True:
            reply = await listed(client, **query)
            seen += [license["license_id"] for license in reply["licenses"]]
            await client.new_license(customer_id=customer)
            if reply["pagination"]["next_cursor"] is None:
                break
            query["cursor"] = reply["pagination"]["next_cursor"]
        assert seen == newest_first

    async def test_a_cursor_is_good_for_its_own_list_only(self, client: Client) -> None:
        customer, _ = await made(client, 2)
        first = await listed(client, customer_id=customer, per_page=1)
        cursor = first["pagination"]["next_cursor"]
        assert (await listed(client, customer_id=customer, per_page=1, cursor=cursor)).status == 200
        others: Any
        for others in ({}, {"customer_id": "another"}, {"customer_id": customer, "is_test": "false"}):
            assert (await listed(client, per_page=1, cursor=cursor, **others)).status == 400, others

    @pytest.mark.parametrize("cursor", ["x", "", "123", "é", "A" * 300, "AAAAAAAAAAA", "-1"])
    async def test_a_made_up_cursor_is_refused(self, client: Client, cursor: str) -> None:
        reply = await listed(client, cursor=cursor)
        assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")
        assert "cursor" in reply["details"]


class TestFilters:
    async def test_by_customer_exactly(self, client: Client) -> None:
        customer, newest_first = await made(client, 2)
        assert await ids(client, customer_id=customer) == newest_first
        assert await ids(client, customer_id=customer[:-1]) == []
        assert await ids(client, customer_id=customer.upper()) == []
        assert await ids(client, customer_id=f" {customer} ") == newest_first

    async def test_by_state(self, client: Client) -> None:
        customer, (second, first) = await made(client, 2)
        await client.admin("DELETE", f"/licenses/{first}")
        assert await ids(client, customer_id=customer, is_active="true") == [second]
        assert await ids(client, customer_id=customer, is_active="false") == [first]

    async def test_by_test(self, client: Client) -> None:
        customer, (real,) = await made(client, 1)
        test = await client.new_license(customer_id=customer, is_test=True)
        assert await ids(client, customer_id=customer, is_test="true") == [test["license_id"]]
        assert await ids(client, customer_id=customer, is_test="false") == [real]

    async def test_by_creation(self, client: Client) -> None:
        customer = f"customer {uuid4()}"
        old = await client.new_license(customer_id=customer)
        new = await client.new_license(customer_id=customer)
        at = new["created_at"]
        assert await ids(client, customer_id=customer, created_before=at) == [old["license_id"]]
        assert new["license_id"] not in await ids(client, customer_id=customer, created_before=at)
        assert new["license_id"] in await ids(client, customer_id=customer, created_after=old["created_at"])
        assert await ids(client, customer_id=customer, created_after=at) == []
        assert await ids(client, customer_id=customer, created_after="2999-01-01T00:00:00Z") == []

    async def test_by_expiry_leaves_perpetual_ones_out(self, client: Client) -> None:
        customer, _ = await made(client, 1)
        soon = await client.new_license(customer_id=customer, expires_in_days=10)
        late = await client.new_license(customer_id=customer, expires_in_days=1000)
        between = (await client.new_license(expires_in_days=100))["expires_at"]
        assert await ids(client, customer_id=customer, expires_before=between) == [soon["license_id"]]
        assert await ids(client, customer_id=customer, expires_after=between) == [late["license_id"]]
        assert await ids(client, customer_id=customer, expires_before=soon["expires_at"]) == []
        assert await ids(client, customer_id=customer, expires_after=late["expires_at"]) == []
        found = await ids(client, customer_id=customer, expires_after=soon["created_at"], expires_before=between)
        assert found == [soon["license_id"]]

    async def test_a_time_may_have_an_offset(self, client: Client) -> None:
        customer, newest_first = await made(client, 1)
        assert await ids(client, customer_id=customer, created_after="2020-01-01T00:00:00+02:00") == newest_first
        reply = await client.admin("GET", f"/licenses?created_after={quote('2020-01-01T00:00:00')}+02:00")
        assert reply.status == 400

    async def test_filters_are_all_applied(self, client: Client) -> None:
        customer, newest_first = await made(client, 3, is_test=True, expires_in_days=5, product="P", edition="E")
        query = {
            "customer_id": customer,
            "is_active": "true",
            "is_test": "true",
            "created_after": "2020-01-01T00:00:00Z",
            "created_before": "2999-01-01T00:00:00Z",
            "expires_after": "2020-01-01T00:00:00Z",
            "expires_before": "2999-01-01T00:00:00Z",
            "page": 1,
            "per_page": 100,
        }
        assert await ids(client, **query) == newest_first
        assert await ids(client, **{**query, "is_test": "false"}) == []

    async def test_after_an_expiry_the_licence_is_still_active_by_the_filter(
        self, client: Client, time_passes: Passing
    ) -> None:
        customer, newest_first = await made(client, 1, expires_in_days=1)
        time_passes.by(days=2)
        assert await ids(client, customer_id=customer, is_active="true") == newest_first

    @pytest.mark.parametrize(
        "query",
        [
            "is_active=1",
            "is_active=True",
            "is_active=",
            "is_test=no",
            "created_after=yesterday",
            "created_after=2024-01-01",
            "created_before=2024-01-01T00:00:00",
            "expires_after=0",
            "page=0",
            "page=-1",
            "page=1.0",
            "page=x",
            "page=99999999999999999999",
            "per_page=0",
            "per_page=101",
            "per_page=",
            "customer_id=",
            "unknown=1",
            "page=1&page=2",
            "customer=acme",
        ],
    )
    async def test_unknown_or_malformed_ones_are_refused_by_name(self, client: Client, query: str) -> None:
        reply = await client.admin("GET", f"/licenses?{query}")
        assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")
        assert query.partition("=")[0] in reply["details"]
