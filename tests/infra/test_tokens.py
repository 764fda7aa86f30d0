"""Tokens: what is issued is read back, and every forgery that we know of is the same refusal."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from domain.errors import Invalid, InvalidToken
from infra.keyring import Keyring, to_base64url
from infra.signatures import public_key_pem
from infra.tokens import Claims, TokenKind, Tokens

from .conftest import NOW

ACCESS, REFRESH, OFFLINE = TokenKind
ORDER = 2**252 + 27742317777372353535851937790883648493
"""L, the order of Ed25519's group (RFC 8032, section 5.1)."""

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
NAMES = {"license_id": uuid4(), "hardware_id": "HW-1", "activation_id": uuid4()}


@pytest.fixture
def tokens(keyring: Keyring) -> Tokens:
    return Tokens(keyring)


def issue(tokens: Tokens, kind: TokenKind = ACCESS, lifetime: timedelta = HOUR, **more: Any) -> tuple[str, Claims]:
    family = uuid4() if kind is REFRESH else None
    arguments: dict[str, Any] = {**NAMES, "now": NOW, "lifetime": lifetime, "family": family, **more}
    return tokens.issue(kind, **arguments)


def refusal(tokens: Tokens, token: str, kind: TokenKind = ACCESS, now: datetime = NOW) -> str:
    with pytest.raises(InvalidToken) as caught:
        tokens.verify(token, kind, now)
    return str(caught.value.details["reason"])


def encoded(value: Any) -> str:
    return to_base64url(value if isinstance(value, bytes) else json.dumps(value).encode())


def decoded(segment: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(segment + "=="))


def header(keyring: Keyring, **more: Any) -> dict[str, Any]:
    return {"alg": "EdDSA", "kid": keyring.active.kid, "typ": "at+jwt", **more}


def payload(**more: Any) -> dict[str, Any]:
    second = int(NOW.timestamp())
    claims = {"iss": "lizenzserver", "aud": "access", "sub": str(uuid4()), "jti": str(uuid4()), "act": str(uuid4())}
    return {**claims, "hwid": "HW-1", "iat": second, "nbf": second, "exp": second + 3600, **more}


def signed(key: SigningKey, head: Any, body: Any) -> str:
    """Sign as we do, by other means, so that only what is said can be wrong."""
    text = f"{encoded(head)}.{encoded(body)}"
    return f"{text}.{to_base64url(key.sign(text.encode()).signature)}"


class TestIssuedTokens:
    @pytest.mark.parametrize("kind", TokenKind)
    def test_say_when_verified_what_they_said_when_issued(self, tokens: Tokens, kind: TokenKind) -> None:
        token, claims = issue(tokens, kind, features=("a", "ü"), product="Editor", hardware_id='"\\ü\U0001f600')
        assert tokens.verify(token, kind, NOW) == claims
        assert Tokens(tokens._keyring).verify(token, kind, NOW) == claims
        assert (claims.kind, claims.hardware_id, claims.product) == (kind, '"\\ü\U0001f600', "Editor")
        assert claims.features == ("a", "ü")
        assert (claims.license_id, claims.activation_id) == (NAMES["license_id"], NAMES["activation_id"])
        assert (claims.family is not None) is (kind is REFRESH)

    def test_live_for_whole_seconds_that_never_exceed_what_was_asked(self, tokens: Tokens) -> None:
        _, claims = issue(tokens, lifetime=timedelta(seconds=10.5))
        assert claims.issued_at == NOW.replace(microsecond=0)
        assert claims.expires_at == datetime(2026, 3, 1, 12, 0, 10, tzinfo=UTC)

    def test_have_each_its_own_jti(self, tokens: Tokens) -> None:
        assert len({issue(tokens)[1].jti for _ in range(100)}) == 100

    def test_begin_a_family_of_their_own_name_unless_they_continue_one(self, tokens: Tokens) -> None:
        _, first = issue(tokens, REFRESH, family=None)
        assert (first.family, first.is_first_of_family) == (first.jti, True)
        _, second = issue(tokens, REFRESH, family=first.family)
        assert (second.family, second.is_first_of_family) == (first.jti, False)

    @pytest.mark.parametrize("kind", TokenKind)
    def test_are_what_pyjwt_would_write(self, tokens: Tokens, keyring: Keyring, kind: TokenKind) -> None:
        token, _ = issue(tokens, kind, features=("ü",), hardware_id="\U0001f600")
        payload = base64.urlsafe_b64decode(token.split(".")[1] + "==")
        private = Ed25519PrivateKey.from_private_bytes(bytes(keyring.active.signing))
        headers = {"kid": keyring.active.kid, "typ": kind.typ}
        assert jwt.PyJWS().encode(payload, private, algorithm="EdDSA", headers=headers) == token

    def test_name_key_and_kind_in_a_header_of_three_members(self, tokens: Tokens, keyring: Keyring) -> None:
        heads = [decoded(issue(tokens, kind)[0].split(".")[0]) for kind in TokenKind]
        assert heads == [{**header(keyring), "typ": typ} for typ in ("at+jwt", "rt+jwt", "offline+jwt")]

    def test_are_read_by_pyjwt_with_all_of_its_own_checks(self, tokens: Tokens, keyring: Keyring) -> None:
        now = datetime.now(UTC)
        token, claims = issue(tokens, now=now)
        seen = jwt.decode(
            token,
            keyring.active.public,
            algorithms=["EdDSA"],
            audience="access",
            issuer="lizenzserver",
            options={"require": ["exp", "nbf", "iat", "jti", "sub", "aud", "iss"]},
        )
        assert seen["jti"] == str(claims.jti)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"lifetime": timedelta(days=30, microseconds=1)},
            {"family": uuid4()},
        ],
    )
    def test_are_not_issued_in_shapes_that_could_not_be_verified(self, tokens: Tokens, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"retired keys|family"):
            issue(tokens, **wrong)

    def test_fit_with_the_longest_identifiers_and_are_refused_when_features_do_not(self, tokens: Tokens) -> None:
        longest: dict[str, Any] = {"hardware_id": "\U0001f600" * 256, "product": "\U0001f600" * 256}
        most = ("x" * 256,) * 31 + ("x" * 159,)  # 8 KiB as JSON, which is all that a licence may have
        assert len(json.dumps(most, separators=(",", ":"))) == 8 * 1024
        token, claims = issue(tokens, OFFLINE, **longest, features=most, epoch=10**9)
        assert tokens.verify(token, OFFLINE, NOW) == claims
        assert claims.epoch == 10**9
        with pytest.raises(Invalid):
            issue(tokens, OFFLINE, **longest, features=most * 2)


class TestTime:
    @pytest.mark.parametrize("verified_before", [True, False])
    def test_a_token_is_dead_at_exp(self, tokens: Tokens, *, verified_before: bool) -> None:
        token, claims = issue(tokens)
        if verified_before:
            tokens.verify(token, ACCESS, NOW)
        assert refusal(tokens, token, now=claims.expires_at) == "expired"
        assert refusal(tokens, token, now=claims.expires_at + 900 * HOUR) == "expired"
        assert tokens.verify(token, ACCESS, claims.expires_at - timedelta(microseconds=1)) == claims

    def test_a_token_from_a_clock_slightly_ahead_is_good_and_one_from_the_future_is_not(self, tokens: Tokens) -> None:
        token, claims = issue(tokens)
        assert tokens.verify(token, ACCESS, claims.issued_at - 5 * SECOND) == claims
        assert refusal(tokens, token, now=claims.issued_at - 5 * SECOND - timedelta(microseconds=1)) == "not_yet_valid"

    def test_the_wall_clock_is_not_asked(self, tokens: Tokens) -> None:
        for then in (datetime(2001, 1, 1, tzinfo=UTC), datetime(2301, 1, 1, tzinfo=UTC)):
            token, claims = issue(tokens, now=then)
            assert tokens.verify(token, ACCESS, then) == claims


class TestRotation:
    def test_tokens_outlive_the_retirement_of_their_key_but_not_its_end(self, tmp_path: Path) -> None:
        ring = Keyring.open(tmp_path, None, None)
        seen, unseen = Tokens(ring), Tokens(ring)
        late = NOW + timedelta(days=29)
        token, claims = issue(seen, now=late, lifetime=timedelta(days=30))
        ring.rotate(NOW)
        at_the_end = NOW + timedelta(days=31)
        for tokens in (seen, unseen):
            assert tokens.verify(token, ACCESS, at_the_end - SECOND) == claims
        for tokens in (seen, Tokens(ring)):
            assert refusal(tokens, token, now=at_the_end) == "unknown_key"
        assert len(seen._verified._entries) == 0

    def test_a_token_by_a_key_that_another_process_just_made_is_good(self, tmp_path: Path) -> None:
        here, there = (Keyring.open(tmp_path, None, None) for _ in range(2))
        there.rotate(NOW)
        token, claims = issue(Tokens(there))
        assert Tokens(here).verify(token, ACCESS, NOW) == claims


class TestRemembering:
    def test_a_token_is_verified_by_its_key_once(self, tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
        token, claims = issue(tokens)
        calls: list[str] = []
        real = jwt.PyJWS.decode

        def counted(self: jwt.PyJWS, token: str, *arguments: Any, **more: Any) -> Any:
            calls.append(token)
            return real(self, token, *arguments, **more)

        monkeypatch.setattr(jwt.PyJWS, "decode", counted)
        assert [tokens.verify(token, ACCESS, NOW) for _ in range(5)] == [claims] * 5
        assert len(calls) == 1

    def test_what_is_remembered_for_one_kind_is_unknown_to_the_others(self, tokens: Tokens) -> None:
        token, _ = issue(tokens)
        tokens.verify(token, ACCESS, NOW)
        assert refusal(tokens, token, REFRESH) == refusal(tokens, token, OFFLINE) == "wrong_kind"

    def test_memory_is_bounded_and_the_least_used_go_first(self, keyring: Keyring) -> None:
        tokens = Tokens(keyring, remembered=2)
        first, second, third = (issue(tokens)[0] for _ in range(3))
        for token in (first, second, first, third):
            tokens.verify(token, ACCESS, NOW)
        kept = {token for token in (first, second, third) if tokens._verified.get(_fingerprint(token)) is not None}
        assert kept == {first, third}

    def test_refused_tokens_are_not_remembered(self, tokens: Tokens) -> None:
        token, claims = issue(tokens)
        for wrong in (token[:-1] + "!", token + "x", "a.b.c"):
            refusal(tokens, wrong)
        refusal(tokens, token, now=claims.expires_at)
        assert len(tokens._verified._entries) == 0


def _fingerprint(token: str) -> bytes:
    return hashlib.sha256(f"access:{token}".encode()).digest()


def hs256(key: bytes, head: dict[str, Any], body: dict[str, Any]) -> str:
    text = f"{encoded(head)}.{encoded(body)}"
    return f"{text}.{to_base64url(hmac.digest(key, text.encode(), 'sha256'))}"


def padded_to_64(token: str) -> str:
    """Give a forged token a signature of the right length, so that its length is not what saves us."""
    head, body, signature = token.split(".")
    return f"{head}.{body}.{(signature + 'A' * 86)[:85]}A"


ALGORITHMS = ("none", "None", "NONE", "nOnE", "", "HS256", "eddsa", "Ed25519", "ES256", "RS256", None, 7, ["EdDSA"])

PATHS = ("../../service.key", "/dev/null", "/proc/self/environ", "file:///etc/passwd")
SQL = ("' OR '1'='1", "x'; DROP TABLE licensing_events; --", "%s")
KIDS = (*PATHS, *SQL, None, 7, 1.5, True, ["x"], {"x": 1}, "", "unknown", "\x00", "\ud800", "k" * 2000)

TYPES = ("JWT", "AT+JWT", "rt+jwt", "offline+jwt", "", None, 1)


def odd_headers(good: dict[str, Any]) -> dict[str, Any]:
    """Return headers, by name, each wrong in one way; as bytes where JSON itself is what is wrong."""
    text = json.dumps(good)
    more: dict[str, dict[str, Any]] = {
        "jku": {"jku": "https://evil.example/jwks.json"},
        "jwk": {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43}},
        "x5u": {"x5u": "https://evil.example/cert.pem"},
        "x5c": {"x5c": ["MII"]},
        "crit of exp": {"crit": ["exp"]},
        "crit empty": {"crit": []},
        "crit unknown": {"crit": ["x"], "x": 1},
        "b64 false": {"b64": False, "crit": ["b64"]},
        "zip": {"zip": "DEF"},
        "cty": {"cty": "JWT"},
        "kid with a blank": {"kid": good["kid"] + " "},
        "kid in other case": {"kid": good["kid"].swapcase()},
        **{f"alg {alg!r}": {"alg": alg} for alg in ALGORITHMS},
        **{f"kid {kid!r:.40}": {"kid": kid} for kid in KIDS},
        **{f"typ {typ!r}": {"typ": typ} for typ in TYPES},
    }
    return {
        **{name: {**good, **members} for name, members in more.items()},
        **{f"no {name}": {key: value for key, value in good.items() if key != name} for name in good},
        "list": [good],
        "string": "EdDSA",
        "null": None,
        "empty object": {},
        "no JSON": b"{",
        "not UTF-8": b'{"alg":"\xff"}',
        "byte order mark": b"\xef\xbb\xbf" + text.encode(),
        "UTF-16": text.encode("utf-16-le"),
        "alg twice": text.replace("{", '{"alg":"none",').encode(),
        "kid twice": text.replace("{", '{"kid":' + json.dumps(good["kid"]) + ",").encode(),
        "escaped alg twice": text.replace("{", '{"\\u0061lg":"none",').encode(),
        "2,500 levels": b"[" * 2500,
        "number of 2,800 digits": b'{"alg":' + b"9" * 2800 + b"}",
        "NaN": b'{"alg":NaN,"kid":NaN,"typ":NaN}',
    }


HEADERS = list(odd_headers({"alg": "EdDSA", "kid": "some-kid", "typ": "at+jwt"}))

NO_TIMES: tuple[Any, ...] = ("1893456000", 1893456000.5, 1e300, 10**30, -1, True, None, [1], {}, math.nan, math.inf)

CLAIMS: dict[str, Any] = {
    **{f"{name} {value!r:.20}": {name: value} for name in ("exp", "iat", "nbf") for value in NO_TIMES},
    **{f"iss {value!r}": {"iss": value} for value in ("other", "lizenzserver.evil.example", ["lizenzserver"], None)},
    **{f"aud {value!r}": {"aud": value} for value in ("refresh", "offline", ["access"], ["access", "refresh"], None)},
    **{f"{name} {value!r}": {name: value} for name in ("sub", "jti", "act") for value in ("me", 1, None, "")},
    "hwid number": {"hwid": 1},
    "family of a refresh token": {"fam": str(uuid4())},
    "features a string": {"features": "all"},
    "nbf later": {"nbf": int(NOW.timestamp()) + 60},
    "exp past": {"exp": int(NOW.timestamp())},
    "all in the future": {name: int(NOW.timestamp()) + 60 for name in ("iat", "nbf")},
}


class TestForgeries:
    """FAULTS' first attacker. Each header is signed by our own key too, so that nothing but the header is wrong."""

    def test_the_forger_of_these_tests_makes_good_tokens_when_he_says_nothing_wrong(
        self, tokens: Tokens, keyring: Keyring
    ) -> None:
        claims = tokens.verify(signed(keyring.active.signing, header(keyring), payload()), ACCESS, NOW)
        assert claims.hardware_id == "HW-1"

    @pytest.mark.parametrize("name", HEADERS)
    def test_odd_headers(self, tokens: Tokens, keyring: Keyring, name: str) -> None:
        head = odd_headers(header(keyring))[name]
        token = signed(keyring.active.signing, head, payload())
        refusal(tokens, token)
        refusal(tokens, token.rpartition(".")[0] + ".")

    @pytest.mark.parametrize("name", CLAIMS)
    def test_odd_claims(self, tokens: Tokens, keyring: Keyring, name: str) -> None:
        refusal(tokens, signed(keyring.active.signing, header(keyring), payload(**CLAIMS[name])))

    @pytest.mark.parametrize("name", payload())
    def test_missing_claims(self, tokens: Tokens, keyring: Keyring, name: str) -> None:
        body = {key: value for key, value in payload().items() if key != name}
        assert refusal(tokens, signed(keyring.active.signing, header(keyring), body)) == "claims"

    @pytest.mark.parametrize("alg", ALGORITHMS)
    def test_other_algorithms_are_refused_by_name(self, tokens: Tokens, keyring: Keyring, alg: Any) -> None:
        token = signed(keyring.active.signing, header(keyring, alg=alg), payload())
        assert refusal(tokens, token) == "algorithm"

    def test_more_than_16_kib(self, tokens: Tokens, keyring: Keyring) -> None:
        token = signed(keyring.active.signing, header(keyring), payload(product="x" * 16_384))
        assert refusal(tokens, token) == "malformed"

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"7", b"[" * 2500, b'{"iss":"\xff"}'])
    def test_payloads_that_are_no_claims(self, tokens: Tokens, keyring: Keyring, body: bytes) -> None:
        refusal(tokens, signed(keyring.active.signing, header(keyring), body))

    @pytest.mark.parametrize("shape", ["raw", "PEM", "base64url", "JWK", "kid", "empty"])
    @pytest.mark.parametrize("alg", ["HS256", "EdDSA"])
    def test_hmac_with_our_public_key(self, tokens: Tokens, keyring: Keyring, shape: str, alg: str) -> None:
        raw = keyring.active.public_raw
        keys = {
            "raw": raw,
            "PEM": public_key_pem(raw).encode(),
            "base64url": to_base64url(raw).encode(),
            "JWK": json.dumps(keyring.active.jwk).encode(),
            "kid": keyring.active.kid.encode(),
            "empty": b"",
        }
        token = hs256(keys[shape], header(keyring, alg=alg), payload())
        refusal(tokens, token)
        refusal(tokens, padded_to_64(token))

    def test_another_key_under_our_kid(self, tokens: Tokens, keyring: Keyring) -> None:
        assert refusal(tokens, signed(SigningKey.generate(), header(keyring), payload())) == "signature"

    def test_another_key_with_its_jwk_beside_it(self, tokens: Tokens, keyring: Keyring) -> None:
        own = SigningKey.generate()
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": to_base64url(bytes(own.verify_key))}
        refusal(tokens, signed(own, header(keyring, jwk=jwk), payload()))

    @pytest.mark.parametrize("name", [name for name in HEADERS if name.startswith("kid ")])
    def test_odd_kids_open_no_file_and_cost_no_verification(
        self, tokens: Tokens, keyring: Keyring, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = signed(keyring.active.signing, odd_headers(header(keyring))[name], payload())
        monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("a file was opened"))
        monkeypatch.setattr(jwt.PyJWS, "decode", lambda *_, **__: pytest.fail("a signature was verified"))
        refusal(tokens, token)

    @pytest.mark.parametrize("kind", TokenKind)
    @pytest.mark.parametrize("other", TokenKind)
    def test_one_kind_for_another(self, tokens: Tokens, keyring: Keyring, kind: TokenKind, other: TokenKind) -> None:
        token, claims = issue(tokens, kind)
        if kind is other:
            assert tokens.verify(token, other, NOW) == claims
            return
        assert refusal(tokens, token, other) == "wrong_kind"
        relabelled = signed(keyring.active.signing, header(keyring, typ=other.typ), decoded(token.split(".")[1]))
        assert refusal(tokens, relabelled, other) == "wrong_kind"

    def test_another_issuer_with_the_same_key(self, keyring: Keyring) -> None:
        token, _ = issue(Tokens(keyring, issuer="elsewhere"))
        assert refusal(Tokens(keyring), token) == "wrong_kind"


def bent(token: str) -> dict[str, str]:
    """Return a good token in all the ways in which it must not be read, by name."""
    head, body, signature = token.split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    malleable = raw[:32] + (int.from_bytes(raw[32:], "little") + ORDER).to_bytes(32, "little")
    spare = signature[:-1] + chr(ord(signature[-1]) + 1)  # The last character's four lowest bits are spare.
    claims = decoded(body)
    return {
        "S + L": f"{head}.{body}.{to_base64url(malleable)}",
        "spare bits of the last character": f"{head}.{body}.{spare}",
        "63-byte signature": f"{head}.{body}.{to_base64url(raw[:63])}",
        "65-byte signature": f"{head}.{body}.{to_base64url(raw + b'0')}",
        "signature of zeros": f"{head}.{body}.{to_base64url(bytes(64))}",
        "R of small order, S zero": f"{head}.{body}.{to_base64url(bytes([1]) + bytes(63))}",
        "no signature": f"{head}.{body}.",
        "unsigned": f"{head}.{body}",
        "truncated": token[: len(token) // 2],
        "two parts swapped": f"{body}.{head}.{signature}",
        "four parts": token + "." + signature,
        "five parts": f"{head}..{body}..{signature}",
        "= after": token + "=",
        "== after": token + "==",
        "= after the header": f"{head}=.{body}.{signature}",
        "= after the payload": f"{head}.{body}==.{signature}",
        "line break after": token + "\n",
        "blank before": " " + token,
        "NUL after": token + "\0",
        "not ASCII after": token + "é",
        "lone surrogate after": token + "\ud800",
        "digits of another script": token[:-1] + "٣",
        "standard alphabet": f"{head}.{body}.{signature[:-2]}+/",
        "empty": "",
        "dots": "..",
        "Bearer": "Bearer " + token,
        "over 4 KiB": f"{head}.{body}{'A' * 4096}.{signature}",
        "1 MiB": "A" * 2**20,
        "JSON serialisation": json.dumps({"protected": head, "payload": body, "signature": signature}),
        "later end": f"{head}.{encoded({**claims, 'exp': claims['exp'] + 1})}.{signature}",
        "another device": f"{head}.{encoded({**claims, 'hwid': 'HW-2'})}.{signature}",
        "another product": f"{head}.{encoded({**claims, 'product': 'Suite'})}.{signature}",
        "another licence": f"{head}.{encoded({**claims, 'sub': str(UUID(int=1))})}.{signature}",
        "another order of the same claims": f"{head}.{encoded(dict(reversed(claims.items())))}.{signature}",
    }


@pytest.mark.parametrize("kind", TokenKind)
@pytest.mark.parametrize("name", bent(f"{encoded({})}.{encoded({'exp': 1})}.{'A' * 86}"))
@pytest.mark.parametrize("verified_before", [True, False])
def test_a_good_token_that_was_bent(tokens: Tokens, kind: TokenKind, name: str, *, verified_before: bool) -> None:
    token, _ = issue(tokens, kind, product="Editor")
    if verified_before:
        tokens.verify(token, kind, NOW)
    assert bent(token)[name] != token
    refusal(tokens, bent(token)[name], kind)


def test_fields_of_two_good_tokens_do_not_mix(tokens: Tokens) -> None:
    first, second = (issue(tokens, OFFLINE, hardware_id=name)[0].split(".") for name in ("HW-1", "HW-2"))
    assert refusal(tokens, f"{first[0]}.{first[1]}.{second[2]}", OFFLINE) == "signature"
    assert refusal(tokens, f"{first[0]}.{second[1]}.{first[2]}", OFFLINE) == "signature"


base64url_characters = st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=")


@given(st.data())
def test_any_changed_character_is_refused(keyring: Keyring, data: st.DataObject) -> None:
    tokens = Tokens(keyring)
    token, _ = issue(tokens)
    position = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(base64url_characters | st.characters(exclude_categories=()))
    altered = token[:position] + character + token[position + 1 :]
    if altered != token:
        refusal(tokens, altered)


def test_every_last_character_but_the_right_one_is_refused(tokens: Tokens) -> None:
    token, _ = issue(tokens)
    for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        if last != token[-1]:
            refusal(tokens, token[:-1] + last)


@given(st.text(st.characters(exclude_categories=())) | st.binary().map(to_base64url))
@example("a.b.c")
def test_no_text_whatever_raises_anything_else(keyring: Keyring, text: str) -> None:
    refusal(Tokens(keyring), text)
    refusal(Tokens(keyring), f"{to_base64url(text.encode(errors='replace'))}.{text}.{'A' * 86}")
