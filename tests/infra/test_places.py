"""GEO_DATABASE: country, city and coordinates of an address; what it does not know; and files that are none."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from infra.network import Networks
from infra.places import GeoDatabaseError, Place, Places
from infra.settings import SettingsError, load_settings
from tests.support.mmdb import CITY, write_mmdb

GOOGLE = "8.8.8.8"
"""The built-in table says US."""


def networks(places: Places | None) -> Networks:
    return Networks(lambda purpose, text: hashlib.sha256(f"{purpose}:{text}".encode()).digest(), places)


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    records = {
        "8.8.8.0/24": CITY,
        "9.9.9.0/24": {"city": {"names": {"en": "Nowhere"}}},
        "10.0.0.0/8": CITY,
        "1.1.1.0/24": {"country": {"iso_code": "ZZ"}, "city": "of another shape", "location": ["odd"]},
        "2606:4700::/32": {"country": {"iso_code": "IS"}},
    }
    opened = Places(write_mmdb(tmp_path / "city.mmdb", records))
    yield opened
    opened.close()


def test_the_database_says_country_and_place(places: Places) -> None:
    origin = networks(places).describe(GOOGLE)
    assert origin.country == "NZ"
    assert origin.place == Place("NZ", "Dunedin", -45.87, 170.5)
    assert networks(places).describe("2606:4700::1111").country == "IS"


def test_what_the_database_does_not_know_the_built_in_countries_answer(places: Places) -> None:
    known, unknown = networks(places), networks(None)
    for address in ("193.0.0.1", "9.9.9.9", "1.1.1.1", "2001:67c:2e8::1"):
        assert known.describe(address).country == unknown.describe(address).country is not None
    assert known.describe("193.0.0.1").place is None
    assert known.describe("9.9.9.9").place == Place(None, "Nowhere", None, None)
    assert known.describe("1.1.1.1").place == Place(None, None, None, None)


def test_an_address_that_is_not_global_has_no_place(places: Places) -> None:
    origin = networks(places).describe("10.1.2.3")
    assert (origin.country, origin.place) == (None, None)


def test_a_database_of_ipv4_alone_leaves_ipv6_to_the_built_in_countries(tmp_path: Path) -> None:
    places = Places(write_mmdb(tmp_path / "four.mmdb", {"8.8.8.0/24": CITY}, ip_version=4))
    described = networks(places)
    assert described.describe(GOOGLE).country == "NZ"
    assert described.describe("2001:67c:2e8::1").country == networks(None).describe("2001:67c:2e8::1").country
    places.close()


def test_a_damaged_record_is_logged_and_the_built_in_countries_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_mmdb(tmp_path / "city.mmdb", {"8.8.8.0/24": CITY, "9.9.9.0/24": {"country": {"iso_code": "FR"}}})
    content = path.read_bytes()
    # The name of the city becomes a pointer far beyond the end of the file.
    path.write_bytes(content.replace(b"\x47Dunedin", b"\x38\xff\xff\xff\xff\xff\xff\xff"))
    with pytest.raises(GeoDatabaseError, match="damaged"):
        Places(path)

    path.write_bytes(content)
    places = Places(path)
    with path.open("r+b") as file:
        file.write(content.replace(b"\x47Dunedin", b"\x38\xff\xff\xff\xff\xff\xff\xff"))
    with caplog.at_level(logging.WARNING):
        assert networks(places).describe(GOOGLE).country == "US"
    assert "GEO_DATABASE is damaged" in caplog.text
    assert GOOGLE not in caplog.text
    assert places.of(ip_address("9.9.9.9")) == Place("FR", None, None, None)
    places.close()


@pytest.mark.parametrize(
    "content, why",
    [
        (None, "the file can't be read (FileNotFoundError)"),
        (b"", "the file is no MMDB database"),
        (b"country,iso\n" * 1000, "the file is no MMDB database"),
        (b"\xab\xcd\xefMaxMind.com\xe0", "the file is no MMDB database"),
    ],
)
def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path, content: bytes | None, why: str) -> None:
    path = tmp_path / "city.mmdb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        load_settings({"GEO_DATABASE": str(path)}, None)
    assert str(refused.value) == f"GEO_DATABASE: {why}"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="GEO_DATABASE: the file is no MMDB database"):
        load_settings({"GEO_DATABASE": str(tmp_path)}, None)


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    path = write_mmdb(tmp_path / "asn.mmdb", {"8.8.8.0/24": {"autonomous_system_number": 15169}})
    with pytest.raises(SettingsError, match="GEO_DATABASE: the file is an MMDB database without countries"):
        load_settings({"GEO_DATABASE": str(path)}, None)


def test_a_good_one_is_taken(tmp_path: Path) -> None:
    path = write_mmdb(tmp_path / "city.mmdb", {"8.8.8.0/24": CITY})
    assert load_settings({"GEO_DATABASE": str(path)}, None).geo_database == path
