"""With GEO_DATABASE, the usage log keeps the place of an address beside it, sealed, and the country in the clear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from infra.postgres import Database
from tests.support.cluster import Cluster
from tests.support.mmdb import CITY, write_mmdb
from tests.support.patience import running_patiently
from tests.support.service import settings_for

pytestmark = pytest.mark.asyncio(loop_scope="module")


def usage(database: Database) -> list[dict[str, Any]]:
    with psycopg.connect(database.conninfo(), row_factory=dict_row) as connection:
        return connection.execute("SELECT * FROM usage ORDER BY id").fetchall()


async def test_the_place_is_stored_beside_the_address_and_only_sealed(cluster: Cluster, tmp_path: Path) -> None:
    path = write_mmdb(tmp_path / "city.mmdb", {"8.8.8.0/24": CITY})
    database = cluster.new_database()
    async with running_patiently(settings_for(tmp_path, GEO_DATABASE=str(path)), database) as (services, client):
        license = await client.new_license()
        await client.activate(license, "pc", fields={"os_info": {"name": "Plan9", "version": "4"}})
        unknown = {"license_key": "LIC-000000000000"}
        for client.address in ("8.8.8.8", "8.8.8.9", "193.0.0.1", "8.8.8.8"):
            assert (await client.validate(license, "pc")).status == 200
        client.address = "8.8.8.10"
        assert (await client.validate(unknown, "pc")).status == 404
        rows = usage(database)
        opened = [services.vault.open(row["subject_id"], row["details_sealed"]) for row in rows]
    cluster.drop(database)

    dunedin = {"city": "Dunedin", "latitude": -45.87, "longitude": 170.5}
    os = {"os": "Plan9", "os_version": "4"}
    assert [row["country"] for row in rows] == ["NZ", "NZ", "NL", "NZ", "NZ"]
    assert opened == [
        {"address": "8.8.8.8", **dunedin, **os},
        {"address": "8.8.8.9", **dunedin, **os},
        {"address": "193.0.0.1", **os},
        {"address": "8.8.8.8", **dunedin, **os},
        {"address": "8.8.8.10", **dunedin},
    ]
    assert not any(sign in repr(rows) for sign in ("Dunedin", "45.87", "170.5"))
