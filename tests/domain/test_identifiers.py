from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.identifiers import (
    KEY_ALPHABET,
    KeyFormat,
    device_digest,
    license_key_digest,
    new_license_key,
    normalize_license_key,
)

SYMBOL = f"[{KEY_ALPHABET}]"


@pytest.mark.parametrize(
    "form, pattern", [("prefixed", f"LIC-{SYMBOL}{{12}}"), ("grouped", f"{SYMBOL}{{4}}-{SYMBOL}{{4}}-{SYMBOL}{{4}}")]
)
def test_keys_have_the_documented_forms(form: KeyFormat, pattern: str) -> None:
    keys = {new_license_key(form) for _ in range(500)}
    assert len(keys) == 500
    assert all(re.fullmatch(pattern, key) for key in keys)


def test_the_alphabet_leaves_out_what_is_misread() -> None:
    assert len(set(KEY_ALPHABET)) == 32
    assert not set("IO01") & set(KEY_ALPHABET)


def test_every_symbol_is_used() -> None:
    assert set("".join(new_license_key("grouped") for _ in range(500))) == {*KEY_ALPHABET, "-"}


def test_a_key_is_found_however_it_was_typed() -> None:
    typed = " lic-abcd efgh\tjkmn\n"
    assert normalize_license_key(typed) == "LIC-ABCDEFGHJKMN"
    assert license_key_digest(typed) == hashlib.sha256(b"LIC-ABCDEFGHJKMN").digest()


@given(st.text(), st.text())
def test_devices_differ_where_their_ids_do(one: str, other: str) -> None:
    assert (device_digest(one) == device_digest(other)) is (one == other)
    assert len(device_digest(one)) == 16
