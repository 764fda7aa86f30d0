"""Who sent what the logs hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.places import Places
from infra.senders import NOBODY, Senders
from infra.vault import Vault
from tests.support.mmdb import write_mmdb

VAULT = Vault(b"m" * 32, b"l" * 32)


def hash_of(address: str) -> bytes:
    subject_id, _ = VAULT.new_subject()
    found = Senders(VAULT).of_details(subject_id, VAULT.seal(subject_id, {"address": address})).address_hash
    assert found is not None
    return found


def test_all_that_one_customer_has_of_ipv6_is_one() -> None:
    assert hash_of("2001:db8:1:2::1") == hash_of("2001:db8:1:2:ffff::9") != hash_of("2001:db8:1:3::1")


def test_each_address_of_ipv4_is_one() -> None:
    assert hash_of("203.0.113.7") == hash_of("203.0.113.7") != hash_of("203.0.113.8")


def test_a_hash_says_nothing_to_who_has_no_key() -> None:
    subject_id, _ = VAULT.new_subject()
    other = Vault(b"m" * 32, b"x" * 32)
    wrapped = other.new_subject()
    found = Senders(other).of_details(wrapped[0], other.seal(wrapped[0], {"address": "203.0.113.7"}))
    assert found.address_hash != hash_of("203.0.113.7")
    assert subject_id != wrapped[0]


def test_who_was_erased_is_nobody() -> None:
    subject_id, _ = VAULT.new_subject()
    sealed = VAULT.seal(subject_id, {"address": "203.0.113.7"})
    VAULT.forget(subject_id)
    assert Senders(VAULT).of_details(subject_id, sealed) == NOBODY


@pytest.mark.parametrize(
    "os, told", [({"os": "Windows", "os_version": "11"}, "Windows 11"), ({"os": "Linux"}, "Linux")]
)
def test_the_operating_system_is_told_with_its_version(os: dict[str, str], told: str) -> None:
    subject_id, _ = VAULT.new_subject()
    sealed = VAULT.seal(subject_id, {"address": "203.0.113.7", **os})
    assert Senders(VAULT).of_details(subject_id, sealed).os == told


def test_a_place_is_about_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "city.mmdb"
    record = {"country": {"iso_code": "DE"}, "location": {"latitude": 48.1374, "longitude": 11.5755}}
    write_mmdb(path, {"198.51.100.0/24": record, "8.8.8.0/24": record})
    places = Places(path)
    subject_id, _ = VAULT.new_subject()
    sealed = VAULT.seal(subject_id, {"address": "8.8.8.8"})
    try:
        assert Senders(VAULT, places).of_details(subject_id, sealed).place == (48.0, 11.5)
    finally:
        places.close()


def test_who_was_out_of_memory_for_a_while_is_known_again() -> None:
    subject_id, wrapped = VAULT.new_subject()
    sealed = VAULT.seal(subject_id, {"address": "203.0.113.7"})
    senders = Senders(VAULT)
    VAULT.forget(subject_id)
    assert senders.of_details(subject_id, sealed) == NOBODY
    senders.keep([{"subject_id": subject_id, "wrapped_key": wrapped}])
    assert senders.of_details(subject_id, sealed).address == "203.0.113.7"
