"""Small databases in the MMDB format, with the records of GeoLite2-City."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdb_writer import MMDBWriter
from netaddr import IPSet

CITY: dict[str, Any] = {
    "country": {"iso_code": "NZ"},
    "city": {"names": {"en": "Dunedin", "de": "Neu-Edinburgh"}},
    "location": {"latitude": -45.87, "longitude": 170.5},
}


def write_mmdb(path: Path, records: Mapping[str, Mapping[str, Any]], *, ip_version: int = 6) -> Path:
    """Write a database of records by network, such as {"8.8.8.0/24": CITY}."""
    writer = MMDBWriter(
        ip_version=ip_version,
        ipv4_compatible=ip_version == 6,
        database_type="Test-City",
        languages=["en"],
        description="for tests",
        float_type="f64",
    )
    for network, record in records.items():
        writer.insert_network(IPSet([network]), dict(record))
    writer.to_db_file(str(path))
    return path
