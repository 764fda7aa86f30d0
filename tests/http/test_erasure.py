"""Erasing a customer: the person is gone from everywhere, history stays, and everything goes on working."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import unquote, urlencode
from uuid import UUID

import pytest
import pytest_asyncio
from yarl import URL

from api.services import Services
from infra.erasure_register import ErasureRegister
from infra.postgres import Database
from tests.support.client import Client, Reply
from tests.support.cluster import Cluster
from tests.support.patience import running_patiently
from tests.support.service import settings_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

EMAIL = "Zoe.Zwoelfender@Example.org"
NOTE = {"invoice": "Rechnung-8844-Zwölf"}
DEVICE = {"device_name": "Zoes Schreibtisch", "os_info": {"name": "Plan9-Quokka", "version": "Release-77.42"}}
REASON = "Ticket 4711"
SESSION = {"document": "Testament-Entwurf.docx"}


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


async def erase(client: Client, name: str, by: str = "customer_id") -> Reply:
    return await client.admin("POST", f"/customers/{name}/erase?by={by}", {"reason": REASON})


async def a_person(client: Client, customer_id: str, **more: Any) -> dict[str, Any]:
    """Make a licence of a person who has used it, and return it."""
    license = await client.new_license(customer_id=customer_id, email=EMAIL, metadata=NOTE, **more)
    assert (await client.activate(license, "hw-1", fields=DEVICE)).status == 201
    token = (await client.tokens(license, "hw-1"))["access_token"]
    assert (await client.bearer("/api/v1/license/heartbeat", token, {"session_data": SESSION})).status == 200
    return license


def stored(database: Database, query: Any, *parameters: Any) -> list[dict[str, Any]]:
    with database.connect() as connection:
        found = connection.execute(query, parameters)
        return found.fetchall() if found.description else []


async def test_the_person_is_gone_and_the_licence_goes_on(client: Client, database: Database) -> None:
    license = await a_person(client, "gone")
    path = f"/licenses/{license['license_id']}"
    erased = await erase(client, "gone")
    assert (erased.status, erased["license_ids"]) == (200, [license["license_id"]])
    shown = await client.admin("GET", path)
    assert (shown["customer_id"], shown["email"], shown["metadata"]) == (None, None, {})
    assert shown["license_key"] == license["license_key"]
    (device,) = (await client.admin("GET", f"{path}/devices"))["devices"]
    assert (device["hardware_id"], device["device_name"], device["os_info"]) == ("hw-1", None, None)
    assert (await client.validate(license, "hw-1")).status == 200
    listed = await client.admin("GET", "/licenses?customer_id=gone")
    assert listed["licenses"] == []
    assert (await client.admin("GET", f"/licenses?email={EMAIL}"))["licenses"] == []
    assert (await client.admin("GET", "/licenses?per_page=100")).status == 200
    (row,) = stored(database, "SELECT * FROM data_subjects WHERE subject_id = %s", UUID(erased["subject_ids"][0]))
    assert (row["lookup_hash"], row["wrapped_key"]) == (None, None)
    assert (await erase(client, "gone")).status == 404


async def test_history_says_who_erased_and_why_and_nothing_of_the_person(client: Client) -> None:
    license = await a_person(client, "told")
    await erase(client, "told")
    events = (await client.admin("GET", f"/licenses/{license['license_id']}/events"))["events"]
    assert [event["type"] for event in events] == ["customer.erased", "license.activated", "license.issued"]
    assert events[0]["actor"] == "admin:default"
    assert events[0]["data"]["reason"] == REASON
    assert events[0]["data"]["license_ids"] == [license["license_id"]]
    assert events[1]["data"] | {"device_name": 0, "os_info": 0} == events[1]["data"] | {"device_name": 0, "os_info": 0}
    assert (events[1]["data"]["device_name"], events[1]["data"]["os_info"]) == (None, None)
    assert (events[2]["data"]["customer_id"], events[2]["data"]["email"]) == (None, None)


async def test_the_reason_can_be_erased_too(client: Client) -> None:
    license = await a_person(client, "why")
    erased = await erase(client, "why")
    assert (await erase(client, erased["record_id"], "subject_id")).status == 200
    events = (await client.admin("GET", f"/licenses/{license['license_id']}/events"))["events"]
    assert events[0]["data"]["reason"] is None


async def test_nothing_personal_is_kept_for_a_licence_whose_customer_was_erased(
    client: Client, database: Database
) -> None:
    license = await a_person(client, "later")
    path = f"/licenses/{license['license_id']}"
    await erase(client, "later")
    before = stored(database, "SELECT coalesce(max(id), 0) AS id FROM usage")[0]["id"]
    assert (await client.activate(license, "hw-2", fields=DEVICE)).status == 201
    token = (await client.tokens(license, "hw-2"))["access_token"]
    assert (await client.bearer("/api/v1/license/heartbeat", token, {"session_data": SESSION})).status == 200
    assert (await client.validate(license, "hw-2")).status == 200
    body = {"hardware_id": "hw-1", "reason": "her laptop was stolen"}
    assert (await client.admin("POST", f"{path}/devices/deactivate", body)).status == 200
    assert (await client.admin("PATCH", path, {"max_devices": 9})).status == 200
    refused = await client.admin("PATCH", path, {"email": EMAIL})
    assert (refused.status, refused["error_code"]) == (409, "CUSTOMER_ERASED")
    assert (await client.admin("PATCH", path, {"metadata": NOTE})).status == 409
    assert (await client.admin("PATCH", path, {"email": None, "metadata": {}, "max_devices": 8})).status == 200
    assert (await client.admin("DELETE", path)).status == 200
    rows = stored(database, "SELECT details_sealed, session_sealed FROM usage WHERE id > %s", before)
    assert len(rows) == 2
    assert all(row["details_sealed"] is None and row["session_sealed"] is None for row in rows)
    events = stored(
        database,
        "SELECT convert_from(state, 'UTF8')::json AS state FROM licensing_events WHERE originator_id = %s"
        " ORDER BY originator_version OFFSET 2",
        UUID(license["license_id"]),
    )
    assert len(events) == 5
    assert [e["state"]["data"].get("sealed") for e in events] == [None] * 5
    assert all("sealed_address" not in event["state"]["cause"] for event in events)


async def test_the_same_customer_later_is_somebody_new(client: Client) -> None:
    first = await a_person(client, "again")
    erased = await erase(client, "again")
    second = await a_person(client, "again")
    assert [row["license_id"] for row in (await client.admin("GET", "/licenses?customer_id=again"))["licenses"]] == [
        second["license_id"]
    ]
    once_more = await erase(client, "again")
    assert once_more["license_ids"] == [second["license_id"]] != [first["license_id"]]
    assert once_more["subject_ids"] != erased["subject_ids"]


async def test_several_emails_of_a_customer_are_one_person(client: Client) -> None:
    licenses = [
        await client.new_license(customer_id="firm", email=f"{who}@firm.example") for who in ("ann", "bob", "cid")
    ]
    assert (await erase(client, "ann@firm.example", "email")).status == 404, "one of them is not the firm's to erase"
    erased = await erase(client, "firm")
    assert sorted(erased["license_ids"]) == sorted(license["license_id"] for license in licenses)
    for license in licenses:
        assert (await client.admin("GET", f"/licenses/{license['license_id']}"))["email"] is None


async def test_by_email_whoever_is_known_by_it_alone_is_found(client: Client) -> None:
    """Now or when first seen; and the licences of customers with an id are named, and stay."""
    body = {"email": "Mia@Example.org", "product": "App", "edition": "Pro", "max_activations": 2}
    hers = (await client.b_admin("POST", "/licenses", body)).body
    firms = await client.new_license(customer_id="her firm", email="mia@example.org")
    moved = (await client.b_admin("POST", "/licenses", {**body, "email": "old@example.org"})).body
    assert (await client.admin("PATCH", f"/licenses/{moved['license_id']}", {"email": "mia@example.org"})).status == 200
    erased = await erase(client, "MIA@example.org", "email")
    assert sorted(erased["license_ids"]) == sorted([hers["license_id"], moved["license_id"]])
    assert len(erased["subject_ids"]) == 2
    assert erased["licenses_of_others"] == [firms["license_id"]]
    assert (await client.admin("GET", f"/licenses/{firms['license_id']}"))["email"] == "mia@example.org"
    refused = await erase(client, "mia@example.org", "email")
    assert (refused.status, refused["details"]) == (404, {"licenses_of_others": [firms["license_id"]]})
    device = {"license_key": hers["license_key"], "email": "mia@example.org", "device_hash": "d", "device_name": "x"}
    assert (await client.b_client("POST", "/activate", device)).status == 404


async def test_other_licences_with_an_email_of_hers_are_named_however_she_is(client: Client) -> None:
    emails = [f"{who}@many.example" for who in ("ida", "ina")]
    for email in emails:
        await client.new_license(customer_id="many", email=email)
    body = {"email": "INA@many.example", "product": "App", "edition": "Pro", "max_activations": 2}
    hers = (await client.b_admin("POST", "/licenses", body)).body["license_id"]
    other = (await client.new_license(customer_id="another", email=emails[0]))["license_id"]
    await client.new_license(customer_id="yet another", email="eva@many.example")
    erased = await erase(client, "many")
    assert sorted(erased["licenses_of_others"]) == sorted([hers, other])
    assert len(erased["license_ids"]) == 2
    assert (await erase(client, other, "license_id"))["licenses_of_others"] == []


@pytest.mark.parametrize("by", ["license_id", "subject_id"])
async def test_whoever_was_erased_is_nobody_by_any_id(client: Client, by: str) -> None:
    await client.new_license(customer_id=f"once by {by}")
    erased = await erase(client, f"once by {by}")
    ids = erased["license_ids"] if by == "license_id" else erased["subject_ids"]
    assert (await erase(client, ids[0], by)).status == 404
    assert (await client.admin("GET", f"/customers/{ids[0]}/export?by={by}")).status == 404


async def test_by_email_nobody_loses_what_another_has_taken_over(client: Client) -> None:
    body = {"email": "uma@example.org", "product": "App", "edition": "Pro", "max_activations": 2}
    hers, handed_on = [(await client.b_admin("POST", "/licenses", body)).body["license_id"] for _ in range(2)]
    assert (await client.admin("PATCH", f"/licenses/{handed_on}", {"email": "vera@example.org"})).status == 200
    refused = await erase(client, "vera@example.org", "email")
    assert (refused.status, refused["details"]) == (404, {"licenses_of_others": [handed_on]})
    assert (await client.admin("GET", f"/licenses/{hers}"))["email"] == "uma@example.org"
    erased = await erase(client, handed_on, "license_id")
    assert sorted(erased["license_ids"]) == sorted([hers, handed_on])


async def test_a_kept_answer_goes_with_whom_it_shows_and_nothing_is_done_twice(
    client: Client, services: Services, database: Database
) -> None:
    body = {"customer_id": "kept", "email": EMAIL, "max_devices": 1}
    created = await client.admin("POST", "/licenses", body, idempotency_key="kept-1")
    bulk = {"licenses": [{"customer_id": "other"}, {"customer_id": "kept"}]}
    assert (await client.admin("POST", "/licenses/bulk-create", bulk, idempotency_key="kept-2")).status == 201
    path = f"/licenses/{created['license_id']}"
    assert (await client.admin("PATCH", path, {"max_devices": 2}, idempotency_key="kept-3")).status == 200
    done = await client.activate(created.body, "hw", idempotency_key="kept-4")
    subject = (await erase(client, "kept"))["subject_ids"][0]
    repeats: tuple[tuple[str, str, dict[str, Any], str], ...] = (
        ("POST", "/licenses", body, "kept-1"),
        ("POST", "/licenses/bulk-create", bulk, "kept-2"),
        ("PATCH", path, {"max_devices": 2}, "kept-3"),
    )
    for method, target, again, key in repeats:
        refused = await client.admin(method, target, again, idempotency_key=key)
        assert (refused.status, refused["error_code"]) == (410, "ANSWER_ERASED")
    assert (await client.activate(created.body, "hw", idempotency_key="kept-4")).body == done.body
    rows = stored(database, "SELECT body_hash, answer_sealed FROM idempotency WHERE subject_ids @> %s", [UUID(subject)])
    assert rows == [{"body_hash": b"", "answer_sealed": b""}] * 3
    assert (await client.admin("GET", "/licenses?customer_id=kept"))["licenses"] == []
    lookup = services.subjects.lookup_hash("kept", None)
    assert stored(database, "SELECT subject_id FROM data_subjects WHERE lookup_hash = %s", lookup) == [], (
        "nor is she known again"
    )


async def test_memory_forgets(client: Client, services: Services, database: Database) -> None:
    license = await a_person(client, "cached")
    await client.validate(license, "hw-1")
    (subject,) = (await client.admin("GET", "/customers/cached/export"))["subject_ids"]
    id = UUID(subject)
    assert services.vault.knows(id)
    assert any(key[0] == id for key in services.usage_details._sealed)
    (row,) = stored(database, "SELECT wrapped_key FROM data_subjects WHERE subject_id = %s", id)
    await erase(client, "cached")
    services.vault.take(id, row["wrapped_key"])
    assert not services.vault.knows(id), "no read that was under way brings the key back"
    assert not any(key[0] == id for key in (*services.usage_details._sealed, *services.usage_details._addresses))
    assert not any(standing.subject_id == id for standing in services.standings._standings.values())


async def test_an_export_has_all_that_is_stored_of_a_person(client: Client) -> None:
    client.address = "203.0.113.213"
    license = await a_person(client, "exported")
    await client.validate(license, "hw-unknown")
    exported = (await client.admin("GET", "/customers/exported/export")).body
    (shown,) = exported["licenses"]
    assert (shown["customer_id"], shown["email"], shown["metadata"]) == ("exported", EMAIL, NOTE)
    assert shown["devices"][0]["device_name"] == DEVICE["device_name"]
    assert [event["type"] for event in exported["events"]] == ["license.issued", "license.activated"]
    assert exported["events"][1]["data"]["os_info"] == DEVICE["os_info"]
    assert {event["address"] for event in exported["events"]} == {client.address}
    assert [use["type"] for use in exported["usage"]] == ["device.heartbeat", "license.validation.failed"]
    assert exported["usage"][0]["session"] == SESSION
    assert exported["usage"][0]["details"]["address"] == client.address
    assert [value for name, value in exported.items() if name.startswith("next_")] == [None] * 3
    assert (await client.admin("GET", "/customers/nobody/export")).status == 404
    await erase(client, "exported")
    assert (await client.admin("GET", "/customers/exported/export")).status == 404


@pytest.mark.parametrize("licenses, uses, rows", [(1, 3, 2), (5, 0, 2), (4, 1, 2), (4, 0, 100), (1, 1, 2)])
async def test_an_export_goes_on_page_by_page(
    client: Client, monkeypatch: pytest.MonkeyPatch, licenses: int, uses: int, rows: int
) -> None:
    for name in ("api.customer_export.PAGE", "api.routes.admin_customers.PAGE"):
        monkeypatch.setattr(name, rows)
    for name in ("api.customer_export.LICENSES_PAGE", "api.routes.admin_customers.LICENSES_PAGE"):
        monkeypatch.setattr(name, 2)
    customer = f"long-{licenses}-{uses}-{rows}"
    made = [await client.new_license(customer_id=customer) for _ in range(licenses)]
    for number in range(uses):
        await client.activate(made[0], f"hw-{number}")
        await client.validate(made[0], f"hw-{number}")
        await client.validate(made[0], f"hw-{number}")
    found: dict[str, list[Any]] = {"licenses": [], "events": [], "usage": []}
    path, pages = f"/customers/{customer}/export", 0
    while path:
        page = await client.admin("GET", path)
        found["licenses"] += [license["license_id"] for license in page["licenses"]]
        found["events"] += [event["position"] for event in page["events"]]
        found["usage"] += [use["id"] for use in page["usage"]]
        after = {f"{name}_after": page[f"next_{name}_after"] for name in found}
        assert None not in after.values() or set(after.values()) == {None}
        path = "" if None in after.values() else f"/customers/{customer}/export?{urlencode(after)}"
        pages += 1
    assert found["licenses"] == [license["license_id"] for license in made]
    assert (len(found["events"]), len(found["usage"])) == (licenses + uses, 2 * uses)
    for name in ("events", "usage"):
        assert found[name] == sorted(set(found[name]))
    assert pages == max(licenses // 2, (licenses + uses) // rows, 2 * uses // rows) + 1


@pytest.mark.parametrize("damage", ["wrapped_key = 'x'::bytea", "wrapped_key = NULL", "gone"])
async def test_a_key_that_is_damaged_or_gone_holds_up_no_list(
    client: Client, services: Services, damage: str, database: Database
) -> None:
    customer = f"damaged-{len(damage)}"
    license = await a_person(client, customer)
    path = f"/licenses/{license['license_id']}"
    (subject,) = (await client.admin("GET", f"/customers/{customer}/export"))["subject_ids"]
    id = UUID(subject)
    change = "DELETE FROM data_subjects" if damage == "gone" else f"UPDATE data_subjects SET {damage}"
    stored(database, f"{change} WHERE subject_id = %s", id)
    services.vault.forget(id)
    services.standings._standings.clear()
    listed = await client.admin("GET", "/licenses?per_page=100")
    assert license["license_id"] in [row["license_id"] for row in listed["licenses"]]
    then = f"?as_of={(await client.admin('GET', f'{path}/events'))['events'][0]['position']}"
    past = (f"{path}{then}", f"{path}/devices{then}", f"{path}/history", f"{path}/why?hardware_id=hw-1")
    for each in (path, f"{path}/devices", f"{path}/events", *past):
        assert (await client.admin("GET", each)).status == 200, each
    assert (await client.admin("GET", path))["email"] is None
    assert (await client.validate(license, "hw-1")).status == 200
    assert (await client.activate(license, "hw-9", fields=DEVICE)).status == 201
    assert (await client.b_admin("GET", "/licenses?per_page=100")).status == 200
    more = await client.admin("POST", "/licenses", {"customer_id": customer})
    assert more.status == (201 if damage == "gone" else 503), "nothing is sealed under a key that nobody has"
    if damage.endswith("bytea"):
        assert (await erase(client, customer)).status == 200, "one that is damaged can be erased"


async def test_a_damaged_licence_key_holds_up_no_list(client: Client, database: Database) -> None:
    license = await client.new_license(customer_id="unreadable")
    stored(database, "UPDATE licenses SET key_sealed = 'x' WHERE license_id = %s", license["license_id"])
    assert (await client.admin("GET", "/licenses?per_page=100")).status == 200
    assert (await client.admin("GET", f"/licenses/{license['license_id']}"))["license_key"] == ""


@pytest.mark.parametrize("name", ["two%20words", "a%2Fb", "Zw%C3%B6lf", "50%25"])
async def test_any_customer_id_can_be_named(client: Client, name: str) -> None:
    await client.new_license(customer_id=unquote(name))
    url = URL(f"{client.base}/api/v1/admin/customers/{name}/erase", encoded=True)
    headers = {"X-Admin-API-Key": client.secrets.admin_api_key}
    async with client.session.post(url, json={"reason": REASON}, headers=headers) as reply:
        assert reply.status == 200


async def test_what_is_wrong_is_refused_before_anything_is_done(client: Client, services: Services) -> None:
    await client.new_license(customer_id="careful")
    before = ErasureRegister(services.register.path).read()
    for body in ({}, {"reason": ""}, {"reason": " "}, {"reason": None}):
        assert (await client.admin("POST", "/customers/careful/erase", body)).status == 400
    assert (await client.admin("POST", "/customers/careful/erase?by=name", {"reason": REASON})).status == 400
    for by in ("license_id", "subject_id"):
        assert (await erase(client, "no-uuid", by)).status == 404
    for name in ("%FF", "%ED%A0%80", "%00", "%20"):
        url = URL(f"{client.base}/api/v1/admin/customers/{name}/erase", encoded=True)
        headers = {"X-Admin-API-Key": client.secrets.admin_api_key}
        async with client.session.post(url, json={"reason": REASON}, headers=headers) as reply:
            assert reply.status == 404, name
    assert (
        await client.admin("POST", "/customers/careful/erase", {"reason": REASON}, x_admin_api_key="x")
    ).status == 401
    assert ErasureRegister(services.register.path).read() == before
    assert (await client.admin("GET", "/licenses?customer_id=careful"))["licenses"]
