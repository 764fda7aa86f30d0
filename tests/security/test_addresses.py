"""A made-up X-Forwarded-For buys nothing: no fresh limit, no false entry in the usage log; misses are limited."""

from __future__ import annotations

from pathlib import Path

import psycopg
from psycopg.rows import dict_row

from infra.postgres import Database
from tests.support.client import Client, Reply
from tests.support.patience import running_patiently
from tests.support.service import settings_for

UNKNOWN = {"license_key": "LIC-000000000000", "hardware_id": "pc"}


async def guess(client: Client) -> Reply:
    return await client.program("/api/v1/license/validate", UNKNOWN)


async def test_rotation_gives_no_fresh_bucket(database: Database, tmp_path: Path) -> None:
    async with running_patiently(settings_for(tmp_path, TRUSTED_PROXIES=""), database) as (services, client):
        statuses = []
        for number in range(25):
            client.address = f"203.0.113.{number}, 198.51.100.{number}"
            statuses.append((await guess(client)).status)
        assert statuses == [404] * 20 + [429] * 5

        forged = []
        for number in range(65):
            client.address = f"203.0.113.{number}"
            forged.append((await client.request("POST", "/api/v1/auth/refresh", {"refresh_token": "a.b.c"})).status)
        assert forged == [401] * 60 + [429] * 5

        with psycopg.connect(database.conninfo(), row_factory=dict_row) as connection:
            rows = connection.execute("SELECT subject_id, details_sealed FROM usage").fetchall()
        assert len(rows) == 20
        assert {services.vault.open(row["subject_id"], row["details_sealed"])["address"] for row in rows} == {
            "127.0.0.1"
        }


async def test_only_the_trusted_part_of_the_header_counts(database: Database, tmp_path: Path) -> None:
    async with running_patiently(settings_for(tmp_path), database) as (_, client):
        for number in range(20):
            client.address = f"203.0.113.{number}, 198.51.100.7"
            assert (await guess(client)).status == 404
        limited = await guess(client)
        client.address = "198.51.100.8"
        other = await guess(client)

    assert (limited.status, limited["error_code"]) == (429, "RATE_LIMIT_EXCEEDED")
    assert int(limited.headers["Retry-After"]) > 0
    assert other.status == 404


async def test_no_other_header_says_who_asks(database: Database, tmp_path: Path) -> None:
    """In both dialects: behind a trusted proxy, and where none is trusted."""
    wrong = {"license_key": "AAAA-AAAA-AAAA", "email": "a@example.com", "device_hash": "d", "device_name": "n"}
    for number, trusted in enumerate(("127.0.0.0/8", "")):
        async with running_patiently(settings_for(tmp_path, TRUSTED_PROXIES=trusted), database) as (_, client):
            client.address = f"198.51.100.{number}"
            for path, body in (("/api/v1/license/validate", UNKNOWN), ("/licenses-api/v1/activate", wrong)):
                statuses = []
                for guess_number in range(22):
                    forged = f"203.0.113.{guess_number}"
                    headers = dict.fromkeys(
                        ("x_real_ip", "x_client_ip", "true_client_ip", "cf_connecting_ip", "x_originating_ip"), forged
                    )
                    headers |= {"forwarded": f"for={forged}", "x_client_token": client.secrets.client_token}
                    reply = await client.program(path, body, **headers)
                    statuses.append(reply.status)
                assert statuses == [404] * 20 + [429] * 2


async def test_a_wrong_e_mail_counts_as_a_guess_too(database: Database, tmp_path: Path) -> None:
    async with running_patiently(settings_for(tmp_path), database) as (_, client):
        license = await client.new_license(email="owner@example.com")
        body = {"license_key": license["license_key"], "device_hash": "d", "device_name": "n"}
        wrong = [await client.b_client("POST", "/activate", {**body, "email": f"{n}@example.com"}) for n in range(21)]
        unknown = {**body, "license_key": "AAAA-AAAA-AAAA", "email": "owner@example.com"}
        client.address = "198.51.100.9"
        missing = await client.b_client("POST", "/activate", unknown)

    assert [reply.status for reply in wrong] == [404] * 20 + [429]
    assert (wrong[0].body, wrong[0].status) == (missing.body, missing.status)
