"""Checkpoints and keys have the form of C2SP, and nothing that was altered passes for one."""

from __future__ import annotations

import base64

import pytest
from nacl.signing import SigningKey

from domain.audit.checkpoint import BadCheckpoint, Checkpoint, VerifierKey, parse, parse_all, sign
from domain.audit.merkle import EMPTY_ROOT
from infra.notary_key import verify

# The example of Go's package golang.org/x/mod/sumdb/note.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="

SIGNING = SigningKey(bytes(range(32)))
KEY = VerifierKey("example.com/log", bytes(SIGNING.verify_key))
OTHER = VerifierKey("example.com/log", bytes(SigningKey(bytes(32)).verify_key))
CHECKPOINT = Checkpoint("example.com/log", 42, EMPTY_ROOT)


def signed(checkpoint: Checkpoint = CHECKPOINT, key: VerifierKey = KEY) -> str:
    return sign(checkpoint, key, lambda message: SIGNING.sign(message).signature)


def test_keys_are_those_of_signed_note() -> None:
    key = VerifierKey.parse(f" {GO_KEY}\n")
    assert str(key) == GO_KEY
    raw = base64.b64decode(GO_SIGNATURE)
    assert raw[:4] == key.hash
    assert verify(key.public, GO_TEXT.encode(), raw[4:])
    assert not verify(key.public, GO_TEXT.encode() + b"\n", raw[4:])


def test_a_checkpoint_is_three_lines_and_a_signature() -> None:
    text = signed()
    assert text.startswith(
        "example.com/log\n42\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n\u2014 example.com/log "
    )
    assert text.count("\n") == 5
    assert parse(text).verified(KEY, verify) == CHECKPOINT


def test_signatures_of_others_and_lines_of_others_do_no_harm() -> None:
    text = signed()
    for name in ("witness.example/w", "zeuge.example/größe"):
        witnessed = f"{text}\u2014 {name} AAAAAAAAAAAAAAAAAAAAAAAA\n"
        assert parse(witnessed).verified(KEY, verify) == CHECKPOINT
        assert parse(witnessed).text == witnessed
    body = CHECKPOINT.text + "an extension\n"
    raw = KEY.hash + SIGNING.sign(body.encode()).signature
    extended = f"{body}\n\u2014 {KEY.name} {base64.b64encode(raw).decode()}\n"
    assert parse(extended).verified(KEY, verify) == CHECKPOINT


def test_of_every_single_byte_that_is_changed_it_is_told() -> None:
    text = signed().encode()
    for at in range(len(text)):
        for other in (text[at] ^ 1, text[at] ^ 0x20):
            changed = text[:at] + bytes([other]) + text[at + 1 :]
            with pytest.raises((BadCheckpoint, UnicodeDecodeError)):
                parse(changed.decode()).verified(KEY, verify)


@pytest.mark.parametrize("key", [OTHER, VerifierKey("other.example/log", KEY.public)], ids=["key", "name"])
def test_by_another_key_it_is_not_believed(key: VerifierKey) -> None:
    with pytest.raises(BadCheckpoint, match="not signed by"):
        parse(signed()).verified(key, verify)


def test_a_checkpoint_of_another_log_is_not_believed() -> None:
    foreign = signed(Checkpoint("other.example/log", 42, EMPTY_ROOT))
    with pytest.raises(BadCheckpoint, match=r"of the log other\.example"):
        parse(foreign).verified(KEY, verify)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "a\n1\n\n\u2014 a b\n",
        CHECKPOINT.text,
        signed().replace("\n42\n", "\n042\n"),
        signed().replace("\n42\n", "\n-1\n"),
        signed().replace("\n", "\r\n"),
        signed()[:-1],
        signed().replace("example.com/log\n42", "example com\n42"),
        signed().replace("47DEQ", "47DE"),
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(BadCheckpoint):
        parse(text)


@pytest.mark.parametrize(
    "text",
    ["", "name", GO_KEY.replace("c74f20a3", "c74f20a4"), GO_KEY[:-4], GO_KEY.replace("ARpc", "ABpc"), f"a b+{GO_KEY}"],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(BadCheckpoint):
        VerifierKey.parse(text)


def test_many_in_one_file_are_told_apart() -> None:
    later = Checkpoint("example.com/log", 43, EMPTY_ROOT)
    text = signed() + signed(later) + "\u2014 witness.example/w AAAAAAAAAAAA\n\n"
    assert [note.verified(KEY, verify) for note in parse_all(text)] == [CHECKPOINT, later]
    with pytest.raises(BadCheckpoint):
        parse_all("\n")
