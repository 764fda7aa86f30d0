"""Signed answers, checked by PyNaCl, by Node's crypto and by openssl."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import VerifyKey

from infra.keyring import Keyring
from infra.signatures import canonical, public_key_pem, sign_answer, verify_answer
from infra.tokens import TokenKind, Tokens

ORDER = 2**252 + 27742317777372353535851937790883648493
"""L, the order of Ed25519's group (RFC 8032, section 5.1)."""

ANSWER: dict[str, Any] = {
    "license_key_hash": "ab" * 32,
    "email": "zoë@example.org",
    "features": ["a", "é", "\u20ac"],
    "activations": 1,
    "\u20ac": None,
    "\U0001f600": 1.5,
    "expires_at": None,
    "nested": {"b": True, "a": [0, -1, 1e21, 1e-7]},
}

NODE_VERIFIES_ANSWER = """
const crypto = require('crypto');
const { jwk, message, signature } = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const key = crypto.createPublicKey({ key: jwk, format: 'jwk' });
const good = crypto.verify(null, Buffer.from(message, 'base64'), key, Buffer.from(signature, 'base64'));
process.stdout.write(String(good));
"""

NODE_VERIFIES_TOKEN = """
const crypto = require('crypto');
const { jwks, token } = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const [header, payload, signature] = token.split('.');
const { kid } = JSON.parse(Buffer.from(header, 'base64url'));
const key = crypto.createPublicKey({ key: jwks.keys.find((jwk) => jwk.kid === kid), format: 'jwk' });
const good = crypto.verify(null, Buffer.from(`${header}.${payload}`), key, Buffer.from(signature, 'base64url'));
process.stdout.write(JSON.stringify({ good, claims: JSON.parse(Buffer.from(payload, 'base64url')) }));
"""


def node(path: str, program: str, data: dict[str, Any]) -> str:
    done = subprocess.run([path, "-e", program], input=json.dumps(data), capture_output=True, text=True, check=True)
    return done.stdout


def without(answer: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != field}


@pytest.mark.parametrize(
    "value, form",
    [
        ({"b": 1, "a": [True, None, "\x0f\n\u20ac$"]}, b'{"a":[true,null,"\\u000f\\n\xe2\x82\xac$"],"b":1}'),
        # RFC 8785, section 3.2.3: names are sorted by UTF-16 units, so U+1F600 comes before U+FB33.
        ({"\ufb33": 1, "\U0001f600": 2}, '{"\U0001f600":2,"\ufb33":1}'.encode()),
        ([333333333.33333329, 1e30, 4.50, 2e-3, 1e-27], b"[333333333.3333333,1e+30,4.5,0.002,1e-27]"),
    ],
)
def test_the_canonical_form_is_that_of_rfc_8785(value: Any, form: bytes) -> None:
    assert canonical(value) == form


@pytest.mark.parametrize("value", [2**53, float("nan"), float("inf"), "\ud800", {1: 2}, object()])
def test_what_has_no_canonical_form_is_a_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match=r"domain|representable|codepoints|keys|unsupported"):
        canonical(value)


@pytest.mark.parametrize("field", ["sig", "signature"])
def test_an_answer_is_signed_whole_with_its_kid(keyring: Keyring, field: str) -> None:
    answer = sign_answer(keyring, ANSWER, field)
    assert answer == {**ANSWER, "kid": keyring.active.kid, field: answer[field]}
    assert verify_answer(keyring.active.public_raw, answer, field)
    VerifyKey(keyring.active.public_raw).verify(canonical(without(answer, field)), base64.b64decode(answer[field]))


@given(st.sampled_from([*ANSWER, "kid"]), st.none() | st.text() | st.integers(-9, 9))
def test_any_changed_field_is_noticed(keyring: Keyring, field: str, value: Any) -> None:
    answer = sign_answer(keyring, ANSWER)
    altered = {**answer, field: value}
    assert verify_answer(keyring.active.public_raw, altered) is (canonical(altered) == canonical(answer))


def test_an_added_or_removed_field_is_noticed(keyring: Keyring) -> None:
    answer = sign_answer(keyring, ANSWER)
    assert not verify_answer(keyring.active.public_raw, {**answer, "features_more": ["all"]})
    assert not verify_answer(keyring.active.public_raw, without(answer, "email"))


def wrong_signatures(good: str) -> dict[str, Any]:
    raw = base64.b64decode(good)
    malleable = raw[:32] + (int.from_bytes(raw[32:], "little") + ORDER).to_bytes(32, "little")
    spare_bits = good[:85] + chr(ord(good[85]) + 1) + "=="  # The last character's four lowest bits are spare.
    return {
        "S + L": base64.b64encode(malleable).decode(),
        "63 bytes": base64.b64encode(raw[:63]).decode(),
        "65 bytes": base64.b64encode(raw + b"\0").decode(),
        "zeros": base64.b64encode(bytes(64)).decode(),
        "empty": "",
        "unpadded": good.rstrip("="),
        "other spelling of the same bytes": spare_bits,
        "line break": good + "\n",
        "no base64": "*" * 88,
        "not ASCII": "é" * 88,
        "lone surrogate": "\ud800" * 88,
        "not a string": 7,
        "list": [good],
        "null": None,
    }


@pytest.mark.parametrize("name", wrong_signatures(base64.b64encode(bytes(64)).decode()))
def test_every_wrong_signature_is_refused_quietly(keyring: Keyring, name: str) -> None:
    answer = sign_answer(keyring, ANSWER)
    wrong = wrong_signatures(answer["sig"])[name]
    assert not verify_answer(keyring.active.public_raw, {**answer, "sig": wrong})


def test_an_answer_without_signature_or_with_unsignable_content_is_refused_quietly(keyring: Keyring) -> None:
    answer = sign_answer(keyring, ANSWER)
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    for altered in (
        without(answer, "sig"),
        {**answer, "x": float("nan")},
        {**answer, "x": 2**70},
        {**answer, "x": deep},
    ):
        assert not verify_answer(keyring.active.public_raw, altered)


@pytest.mark.parametrize(
    "key",
    [b"", bytes(31), bytes(33), bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"],
    ids=["empty", "31 bytes", "33 bytes", "small order 4", "small order 1", "small order 2"],
)
def test_odd_public_keys_verify_nothing(keyring: Keyring, key: bytes) -> None:
    # With the identity as key and R, and S = 0, the equation holds for every message: RFC 8032 leaves that open.
    forged = base64.b64encode(b"\x01" + bytes(63)).decode()
    assert not verify_answer(key, {**ANSWER, "sig": forged})
    assert not verify_answer(key, sign_answer(keyring, ANSWER))


def test_node_verifies_an_answer(keyring: Keyring, now: datetime, require_tool: Callable[[str], str]) -> None:
    answer = sign_answer(keyring, ANSWER)
    jwk = keyring.jwks(now)["keys"][0]
    for message, expected in ((canonical(without(answer, "sig")), "true"), (canonical(ANSWER), "false")):
        data = {"jwk": jwk, "message": base64.b64encode(message).decode(), "signature": answer["sig"]}
        assert node(require_tool("node"), NODE_VERIFIES_ANSWER, data) == expected


def test_openssl_verifies_an_answer_with_the_pem(
    keyring: Keyring, tmp_path: Path, require_tool: Callable[[str], str]
) -> None:
    answer = sign_answer(keyring, ANSWER)
    (tmp_path / "key.pem").write_text(public_key_pem(keyring.active.public_raw))
    (tmp_path / "sig").write_bytes(base64.b64decode(answer["sig"]))
    command = [require_tool("openssl"), "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "key.pem"]
    for message, expected in ((canonical(without(answer, "sig")), True), (canonical(ANSWER), False)):
        (tmp_path / "message").write_bytes(message)
        done = subprocess.run(
            [*command, "-in", "message", "-sigfile", "sig"], cwd=tmp_path, capture_output=True, check=False
        )
        assert (done.returncode == 0) is expected, done.stderr


def test_node_verifies_an_offline_token_from_the_jwk_set_alone(
    tmp_path: Path, now: datetime, require_tool: Callable[[str], str]
) -> None:
    ring = Keyring.open(tmp_path, None, None)
    license_id = uuid4()
    token, claims = Tokens(ring).issue(
        TokenKind.OFFLINE,
        license_id=license_id,
        hardware_id="HW-ü-1",
        activation_id=uuid4(),
        now=now,
        lifetime=timedelta(hours=72),
        features=("export", "sync"),
        product="Editor",
    )
    ring.rotate(now)

    seen = json.loads(node(require_tool("node"), NODE_VERIFIES_TOKEN, {"jwks": ring.jwks(now), "token": token}))
    assert seen["good"] is True
    assert seen["claims"]["sub"] == str(license_id)
    assert seen["claims"]["hwid"] == "HW-ü-1"
    assert seen["claims"]["features"] == ["export", "sync"]
    assert seen["claims"]["product"] == "Editor"
    assert seen["claims"]["exp"] == claims.expires_at.timestamp()

    altered = token[:-2] + ("AA" if token[-2:] != "AA" else "BA")
    assert (
        json.loads(node(require_tool("node"), NODE_VERIFIES_TOKEN, {"jwks": ring.jwks(now), "token": altered}))["good"]
        is False
    )
