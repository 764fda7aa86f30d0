"""Access, refresh and offline tokens: JWS (RFC 7515) by Ed25519, read as strictly as they are written."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any
from uuid import UUID, uuid4

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from domain.errors import Invalid, InvalidToken
from infra.keyring import LONGEST_LIFE, Keyring, SigningKeyPair, from_base64url, to_base64url

MAX_TOKEN_LENGTH = 16_384
"""Characters. The longest hardware id and product name, and 8 KiB of features, fit."""

CLOCK_DIFFERENCE = timedelta(seconds=5)
"""How far the clock of the process that issued a token may run ahead of the one that verifies it."""

_ALGORITHM = "EdDSA"
_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}")
_LAST_SECOND = 253402300799  # 9999-12-31T23:59:59Z, the last one that a datetime can hold.


class TokenKind(StrEnum):
    """What a token is for. The value is its audience (`aud`), so that one kind is never taken for another."""

    ACCESS = "access"
    REFRESH = "refresh"
    OFFLINE = "offline"

    @property
    def typ(self) -> str:
        """The `typ` header: explicit typing as RFC 8725 (section 3.11) asks; `at+jwt` is RFC 9068's."""
        return _TYP[self]


_TYP = {TokenKind.ACCESS: "at+jwt", TokenKind.REFRESH: "rt+jwt", TokenKind.OFFLINE: "offline+jwt"}


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says. Times are aware, in UTC and in whole seconds; `family` is a refresh token's only.

    `epoch` counts the licence's deactivations before the token: one more, and the token is dead for good. A family is
    named by the `jti` of its first token.
    """

    kind: TokenKind
    jti: UUID
    license_id: UUID
    hardware_id: str
    activation_id: UUID
    issued_at: datetime
    expires_at: datetime
    epoch: int = 0
    family: UUID | None = None
    features: tuple[str, ...] = ()
    product: str | None = None

    @property
    def is_first_of_family(self) -> bool:
        """Tell whether this refresh token is the one that its family began with."""
        return self.jti == self.family


_Second = Annotated[int, msgspec.Meta(ge=0, le=_LAST_SECOND)]


class _Payload(msgspec.Struct, omit_defaults=True):
    """The claims as they are written: registered names of RFC 7519, and ours."""

    iss: str
    aud: str
    sub: UUID
    jti: UUID
    iat: _Second
    nbf: _Second
    exp: _Second
    hwid: str
    act: UUID
    epoch: Annotated[int, msgspec.Meta(ge=0)] = 0
    fam: UUID | None = None
    features: tuple[str, ...] = ()
    product: str | None = None


_read_payload = msgspec.json.Decoder(_Payload).decode


class Tokens:
    """Issues tokens and verifies them. Safe to use from several threads.

    To issue costs 33 µs, to verify 160 µs, to recognise a token that was verified before 2 µs, to refuse a made-up kid
    16 µs (measured).
    """

    def __init__(self, keyring: Keyring, issuer: str = "lizenzserver", *, remembered: int = 20_000) -> None:
        self._keyring = keyring
        self._issuer = issuer
        self._verified = _Verified(remembered)

    def issue(  # noqa: PLR0913 - a token's claims are named one by one, by keyword
        self,
        kind: TokenKind,
        *,
        license_id: UUID,
        hardware_id: str,
        activation_id: UUID,
        now: datetime,
        lifetime: timedelta,
        epoch: int = 0,
        family: UUID | None = None,
        features: tuple[str, ...] = (),
        product: str | None = None,
    ) -> tuple[str, Claims]:
        """Return a new token and its claims. Both ends of its life are rounded down to whole seconds.

        A refresh token without a family begins one. Raises Invalid when its features make it longer than
        `MAX_TOKEN_LENGTH`; ValueError for a life over 30 days and for a family given to another kind.
        """
        if lifetime > LONGEST_LIFE:
            raise ValueError("retired keys are not kept long enough for this lifetime")
        if family is not None and kind is not TokenKind.REFRESH:
            raise ValueError("a family belongs to refresh tokens")
        issued_at = int(now.timestamp())
        jti = uuid4()
        payload = _Payload(
            iss=self._issuer,
            aud=kind.value,
            sub=license_id,
            jti=jti,
            iat=issued_at,
            nbf=issued_at,
            exp=int((now + lifetime).timestamp()),
            hwid=hardware_id,
            act=activation_id,
            epoch=epoch,
            fam=family or (jti if kind is TokenKind.REFRESH else None),
            features=features,
            product=product,
        )
        token = _signed(self._keyring.active, kind, msgspec.json.encode(payload))
        if len(token) > MAX_TOKEN_LENGTH:
            raise Invalid(features="too long for a token")
        return token, _claims(payload, kind)

    def verify(self, token: str, kind: TokenKind, now: datetime) -> Claims:
        """Return the claims of a token of this kind that holds at `now`; it ends at `exp`, not after it.

        Raises InvalidToken, with a coarse `reason`, for everything that is wrong with it.
        """
        if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
            raise InvalidToken(reason="malformed")
        fingerprint = hashlib.sha256(f"{kind.value}:{token}".encode()).digest()
        known = self._verified.get(fingerprint)
        try:
            kid, claims = known or self._verify_afresh(token, kind, now)
            self._key(kid, now)  # A key's time may be over since the token was remembered.
            _check_times(claims, now)
        except InvalidToken:
            self._verified.drop(fingerprint)
            raise
        if known is None:
            self._verified.put(fingerprint, kid, claims)
        return claims

    def _key(self, kid: str, now: datetime) -> Ed25519PublicKey:
        key = self._keyring.verifying(kid, now)
        if key is None:
            raise InvalidToken(reason="unknown_key")
        return key

    def _verify_afresh(self, token: str, kind: TokenKind, now: datetime) -> tuple[str, Claims]:
        """Check what does not change with time; return the key's id and the claims."""
        kid = _kid(token, kind)
        key = self._key(kid, now)
        try:
            signed = jwt.PyJWS().decode(token, key, algorithms=[_ALGORITHM])
        except (jwt.PyJWTError, ValueError):
            raise InvalidToken(reason="signature") from None
        try:
            payload = _read_payload(signed)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise InvalidToken(reason="claims") from None
        if payload.iss != self._issuer or payload.aud != kind.value:
            raise InvalidToken(reason="wrong_kind")
        if payload.nbf != payload.iat or (payload.fam is not None) is not (kind is TokenKind.REFRESH):
            raise InvalidToken(reason="claims")
        return kid, _claims(payload, kind)


class _Verified:
    """The tokens verified of late, by SHA-256, each with its key's id; the least used go first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[bytes, tuple[str, Claims]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, fingerprint: bytes) -> tuple[str, Claims] | None:
        with self._lock:
            entry = self._entries.get(fingerprint)
            if entry is not None:
                self._entries.move_to_end(fingerprint)
            return entry

    def put(self, fingerprint: bytes, kid: str, claims: Claims) -> None:
        with self._lock:
            self._entries[fingerprint] = (kid, claims)
            if len(self._entries) > self._capacity:
                self._entries.popitem(last=False)

    def drop(self, fingerprint: bytes) -> None:
        with self._lock:
            self._entries.pop(fingerprint, None)


def _signed(key: SigningKeyPair, kind: TokenKind, payload: bytes) -> str:
    """Return the compact JWS of a payload, as PyJWT writes it.

    By hand: PyJWT makes each header anew and signs by OpenSSL, so that issuing took 58 µs instead of 33 (measured).
    """
    signed = f"{_header(key.kid, kind)}.{to_base64url(payload)}"
    return f"{signed}.{to_base64url(key.signing.sign(signed.encode()).signature)}"


@lru_cache(64)
def _header(kid: str, kind: TokenKind) -> str:
    members = {"alg": _ALGORITHM, "kid": kid, "typ": kind.typ}
    return to_base64url(json.dumps(members, separators=(",", ":")).encode())


def _kid(token: str, kind: TokenKind) -> str:
    """Return the header's kid, after every check that needs no key.

    The header must be the three members that we write and nothing else, each once: so there is no `jku`, `jwk`,
    `x5u` or `crit` to be led astray by. Each segment must be the one spelling of its bytes.
    """
    if _SHAPE.fullmatch(token) is None:
        raise InvalidToken(reason="malformed")
    try:
        header, _, _ = (from_base64url(segment) for segment in token.split("."))
        members = json.loads(header.decode(), object_pairs_hook=_once_each)
    except (ValueError, RecursionError):
        raise InvalidToken(reason="malformed") from None
    if not isinstance(members, dict) or members.keys() != {"alg", "kid", "typ"}:
        raise InvalidToken(reason="malformed")
    if members["alg"] != _ALGORITHM:
        raise InvalidToken(reason="algorithm")
    if members["typ"] != kind.typ:
        raise InvalidToken(reason="wrong_kind")
    if not isinstance(members["kid"], str):
        raise InvalidToken(reason="unknown_key")
    return members["kid"]


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is named twice")
    return members


def _check_times(claims: Claims, now: datetime) -> None:
    if now >= claims.expires_at:
        raise InvalidToken(reason="expired")
    if now < claims.issued_at - CLOCK_DIFFERENCE:
        raise InvalidToken(reason="not_yet_valid")


def _claims(payload: _Payload, kind: TokenKind) -> Claims:
    return Claims(
        kind=kind,
        jti=payload.jti,
        license_id=payload.sub,
        hardware_id=payload.hwid,
        activation_id=payload.act,
        issued_at=datetime.fromtimestamp(payload.iat, UTC),
        expires_at=datetime.fromtimestamp(payload.exp, UTC),
        epoch=payload.epoch,
        family=payload.fam,
        features=payload.features,
        product=payload.product,
    )
