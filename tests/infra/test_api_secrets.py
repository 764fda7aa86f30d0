"""API keys: their form, their checksum, and how secrets are compared."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.api_secrets import _checksum, digest, equal, new_api_key, well_formed

KEY = new_api_key()


def test_new_keys_have_the_form_that_is_documented_and_differ() -> None:
    keys = {new_api_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(re.fullmatch(r"sk_[0-9A-Za-z]{38}", key) and well_formed(key) for key in keys)
    assert len(set("".join(key[3:35] for key in keys))) == 62


def test_the_checksum_never_changes_with_a_release() -> None:
    assert well_formed("sk_0123456789ABCDEFGHIJKLMNOPQRSTUV" + "1ggZdL")


@pytest.mark.parametrize("body", ["", "0" * 31, "0" * 33, "0" * 31 + "-", "0" * 31 + "\n"])
def test_a_right_checksum_over_another_form_is_refused(body: str) -> None:
    assert not well_formed("sk_" + body + _checksum(body))


@given(st.integers(0, len(KEY) - 1), st.characters())
def test_one_wrong_character_is_noticed(position: int, character: str) -> None:
    altered = KEY[:position] + character + KEY[position + 1 :]
    assert well_formed(altered) is (altered == KEY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sk_",
        KEY[:-1],
        KEY + "0",
        KEY + "\n",
        " " + KEY,
        KEY.upper(),
        KEY[3:],
        "pk" + KEY[2:],
        "\ud800" * 41,
        "٣" * 41,
    ],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    assert not well_formed(text)


def test_the_digest_is_sha_256() -> None:
    assert digest("sk_abc") == hashlib.sha256(b"sk_abc").digest()


@given(st.text(st.characters(exclude_categories=())), st.text(st.characters(exclude_categories=())))
def test_equal_compares_any_two_texts(a: str, b: str) -> None:
    assert equal(a, a)
    assert equal(a, b) is (a == b)


@pytest.mark.parametrize("a, b", [("é", "e\u0301"), ("a", "A"), ("a", "a\0"), ("", " "), ("\udcff", "ÿ")])
def test_texts_that_look_alike_are_not_equal(a: str, b: str) -> None:
    assert not equal(a, b)
