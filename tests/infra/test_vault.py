"""The vault: what is sealed opens for its subject only, and not at all once the key is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.vault import LookupKind, SealBroken, UnknownSubject, Vault

MASTER, LOOKUP = b"m" * 32, b"l" * 32

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.fixture
def vault() -> Vault:
    return Vault(MASTER, LOOKUP)


def flipped(blob: bytes, position: int) -> bytes:
    return blob[:position] + bytes([blob[position] ^ 1]) + blob[position + 1 :]


class TestSubjects:
    @given(json_values)
    def test_what_was_sealed_opens_after_a_restart_with_the_stored_key(self, value: Any) -> None:
        first = Vault(MASTER, LOOKUP)
        subject, wrapped = first.new_subject()
        blob = first.seal(subject, value)

        second = Vault(MASTER, LOOKUP)
        second.remember(subject, wrapped)
        assert second.open(subject, blob) == value
        assert second.tag(subject, "x") == first.tag(subject, "x")

    def test_nothing_of_the_plaintext_or_the_key_is_in_what_is_stored(self, vault: Vault) -> None:
        subject, wrapped = vault.new_subject()
        blob = vault.seal(subject, {"email": "anna@example.org"})
        assert b"anna" not in blob
        assert vault._key(subject) not in wrapped + blob
        assert len(wrapped) == 73

    def test_equal_values_are_sealed_differently_each_time(self, vault: Vault) -> None:
        subject, _ = vault.new_subject()
        assert len({vault.seal(subject, "same") for _ in range(100)}) == 100

    def test_no_nonce_is_used_twice(self, vault: Vault) -> None:
        subject, _ = vault.new_subject()
        seals: tuple[Callable[[], bytes], ...] = (
            lambda: vault.new_subject()[1],
            lambda: vault.seal(subject, "same"),
            lambda: vault.seal_secret("same"),
            lambda: vault.seal_answer("key", b"scope", b"same"),
        )
        for seal in seals:
            assert len({seal()[1:25] for _ in range(50)}) == 50

    def test_one_subjects_data_does_not_open_under_anothers_key(self, vault: Vault) -> None:
        anna, bert = vault.new_subject()[0], vault.new_subject()[0]
        with pytest.raises(SealBroken):
            vault.open(bert, vault.seal(anna, "hers"))

    def test_any_altered_bit_and_any_cut_breaks_the_seal(self, vault: Vault) -> None:
        subject, _ = vault.new_subject()
        blob = vault.seal(subject, {"a": 1})
        for wrong in [flipped(blob, at) for at in range(len(blob))] + [blob[:length] for length in range(len(blob))]:
            with pytest.raises(SealBroken):
                vault.open(subject, wrong)

    def test_a_wrapped_key_is_bound_to_its_subject_and_its_service(self, vault: Vault) -> None:
        (anna, wrapped), bert = vault.new_subject(), uuid4()
        with pytest.raises(SealBroken):
            vault.remember(bert, wrapped)
        assert not vault.knows(bert)
        with pytest.raises(SealBroken):
            Vault(b"x" * 32, LOOKUP).remember(anna, wrapped)

    def test_an_altered_or_cut_wrapped_key_is_refused(self, vault: Vault) -> None:
        subject, wrapped = vault.new_subject()
        vault.forget(subject)
        for wrong in [flipped(wrapped, at) for at in range(len(wrapped))] + [
            wrapped[:at] for at in range(len(wrapped))
        ]:
            with pytest.raises(SealBroken):
                vault.remember(subject, wrong)
        vault.remember(subject, wrapped)
        assert vault.knows(subject)

    def test_a_forgotten_subject_is_unknown(self, vault: Vault) -> None:
        subject, _ = vault.new_subject()
        blob = vault.seal(subject, "x")
        assert vault.knows(subject)
        vault.forget(subject)
        vault.forget(subject)
        assert not vault.knows(subject)
        for use in (lambda: vault.open(subject, blob), lambda: vault.seal(subject, 1), lambda: vault.tag(subject, "x")):
            with pytest.raises(UnknownSubject):
                use()

    def test_the_least_used_keys_go_first(self) -> None:
        vault = Vault(MASTER, LOOKUP, capacity=3)
        subjects = [vault.new_subject()[0] for _ in range(3)]
        vault.seal(subjects[0], "used again")
        newest, _ = vault.new_subject()
        assert [vault.knows(subject) for subject in (*subjects, newest)] == [True, False, True, True]

    def test_whoever_was_asked_about_stays_while_others_are_read(self) -> None:
        vault = Vault(MASTER, LOOKUP, capacity=3)
        wanted, *_ = [vault.new_subject()[0] for _ in range(3)]
        assert vault.knows(wanted), "so that its key is not read again"
        vault.new_subject()
        assert vault.seal(wanted, "x")

    def test_threads_may_share_it(self) -> None:
        vault = Vault(MASTER, LOOKUP, capacity=4)
        stored = [vault.new_subject() for _ in range(8)]
        together = threading.Barrier(4)

        def work(offset: int) -> int:
            together.wait()
            done = 0
            for turn in range(2000):
                subject, wrapped = stored[(turn + offset) % 8]
                try:
                    vault.remember(subject, wrapped)
                    done += vault.open(subject, vault.seal(subject, turn)) == turn
                except UnknownSubject:  # Another thread's key has just taken the place.
                    done += 1
            return done

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(work, range(4))) == [2000] * 4
        assert sum(vault.knows(subject) for subject, _ in stored) == 4


class TestHashes:
    def test_a_tag_is_16_bytes_by_subject_and_text(self, vault: Vault) -> None:
        anna, bert = vault.new_subject()[0], vault.new_subject()[0]
        tags = {vault.tag(subject, text) for subject in (anna, bert) for text in ("1", "2")}
        assert len(tags) == 4
        assert {len(tag) for tag in tags} == {16}
        assert vault.tag(anna, "1") == vault.tag(anna, "1")

    def test_a_lookup_hash_depends_on_kind_value_and_key(self, vault: Vault) -> None:
        kinds: tuple[LookupKind, ...] = ("customer", "email", "network", "address")
        hashes = {
            each.lookup_hash(kind, value)
            for each in (vault, Vault(MASTER, b"k" * 32))
            for kind in kinds
            for value in ("1", "2")
        }
        assert len(hashes) == 16
        assert {len(each) for each in hashes} == {32}

    @pytest.mark.parametrize("spelling", ["anna@strasse.de", " ANNA@Strasse.DE\t", "anna@STRASSE.de", "anna@straße.de"])
    def test_emails_are_found_regardless_of_case_and_blanks(self, vault: Vault, spelling: str) -> None:
        assert vault.lookup_hash("email", spelling) == vault.lookup_hash("email", "anna@strasse.de")

    def test_customer_ids_are_compared_as_they_are(self, vault: Vault) -> None:
        assert vault.lookup_hash("customer", "A") != vault.lookup_hash("customer", "a")

    def test_hashes_and_wrapped_keys_never_change_with_a_release(self) -> None:
        vault = Vault(MASTER, LOOKUP)
        subject = UUID(int=7)
        vault.remember(
            subject,
            bytes.fromhex(
                "01baa3237f1fd66d8b8da8830b3a478c6e06c3f9ae76556e4ac3eb13703654c2e2ebab14794a9d9a6822b056720531f00a8e5adc24afcf335517f939544ed00ec32d41a3017756ec67"
            ),
        )
        assert vault.tag(subject, "x").hex() == "0d13533d43e65f3df88581df0635aa25"
        assert vault.open(
            subject,
            bytes.fromhex(
                "01b875408a88570e08354818b2130f1dd5dcca9c5f5aca9a7f21237abc5f2b9c7c73ddaec379b0a1caf96693fa835ea523af2777d62271dff836"
            ),
        ) == {"email": "a@b.c"}
        assert (
            vault.lookup_hash("email", "a@b.c").hex()
            == "2c89b56496f2cf50b0e61ed4cf5fed7d3d84bb0bbf8dacb5f4cc50c319757cde"
        )
        assert (
            vault.open_secret(
                bytes.fromhex(
                    "011dd3dd3849d31441abfd5d52d5db5199eac72df6e23824e7e71c2adeebe1b9deebda52699d2931fabf4b332bd524c8c68cc43fac26aba7b4"
                )
            )
            == b"LIC-ABCDEFGHJKLM"
        )
        assert (
            vault.open_answer(
                "key",
                b"scope",
                bytes.fromhex("01854efa08c66dfc39ff53c570f752bc495175719f89f5248139a17682e3182e78c474e85e40ae86116159"),
            )
            == b"{}"
        )


class TestSecretsAndAnswers:
    @pytest.mark.parametrize("secret", ["LIC-ABCDEFGHJKLM", "ü", "", b"\x00\xff"])
    def test_a_secret_opens_as_bytes(self, vault: Vault, secret: str | bytes) -> None:
        blob = vault.seal_secret(secret)
        assert vault.open_secret(blob) == (secret.encode() if isinstance(secret, str) else secret)
        assert blob != vault.seal_secret(secret)
        with pytest.raises(SealBroken):
            Vault(b"x" * 32, LOOKUP).open_secret(blob)

    def test_an_answer_opens_for_its_idempotency_key_and_scope_only(self, vault: Vault) -> None:
        blob = vault.seal_answer("ab", b"c", b"answer")
        assert vault.open_answer("ab", b"c", blob) == b"answer"
        for key, scope in (("ab", b"d"), ("a", b"bc"), ("abc", b""), ("AB", b"c"), ("", b"abc")):
            with pytest.raises(SealBroken):
                vault.open_answer(key, scope, blob)
        with pytest.raises(SealBroken):
            Vault(b"x" * 32, LOOKUP).open_answer("ab", b"c", blob)

    def test_what_was_sealed_for_one_purpose_does_not_open_for_another(self, vault: Vault) -> None:
        subject, wrapped = vault.new_subject()
        for blob in (wrapped, vault.seal(subject, "x"), vault.seal_answer("k", b"s", b"x")):
            with pytest.raises(SealBroken):
                vault.open_secret(blob)
        with pytest.raises(SealBroken):
            vault.open(subject, vault.seal_secret(b'"x"'))
