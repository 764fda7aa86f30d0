"""One request on its way through a handler, and the answer that comes out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from aiohttp import web

from api.credentials import Credential, token_bucket
from api.endpoint import Endpoint
from api.rate_limits import Quota
from api.responses import Answer
from api.services import Services
from commands.batch import Idempotency, Render, Replay, Submission
from commands.orders import Order
from domain import facts
from domain.api_key import DEFAULT_PER_HOUR, DEFAULT_PER_MINUTE
from domain.errors import AnswerErased, IdempotencyKeyReused, Invalid, RateLimitExceeded, Unauthorized
from domain.facts import Cause
from infra.network import Origin
from infra.tokens import Claims

MAX_IDEMPOTENCY_KEY = 255
UUID_LENGTH = 36

_WAS_ERASED = """
    SELECT FROM idempotency
    WHERE scope_hash = %s AND answer_sealed = '' AND created_at > %s - interval '24 hours'
"""


def as_uuid(text: str) -> UUID | None:
    """Return a text as a UUID in its usual form, or None: it can't name anything then."""
    try:
        return UUID(text) if len(text) == UUID_LENGTH else None
    except ValueError:
        return None


@dataclass(slots=True)
class Call:
    """A request after its credential, limits and body were checked."""

    request: web.Request
    endpoint: Endpoint
    services: Services
    request_id: str
    now: datetime
    address: str
    credential: Credential
    quota: Quota
    raw_body: dict[str, Any] | None = None
    body: Any = None
    query: Any = None
    _command_id: UUID | None = None

    @property
    def command_id(self) -> UUID:
        """What marks all events that this request leads to, however often it has to be decided."""
        if self._command_id is None:
            self._command_id = uuid4()
        return self._command_id

    @property
    def origin(self) -> Origin:
        """Country and network of the client."""
        return self.services.networks.describe(self.address)

    def path_id(self, name: str) -> UUID | None:
        """Return a path parameter as a UUID, or None where it is none: it can't name anything then."""
        return as_uuid(self.request.match_info[name])

    def cause(self, command: type[Order], subject_id: UUID | None = None) -> Cause:
        """Say who ordered this; the address is sealed under the data subject's key, and left out without one."""
        origin = self.origin
        has_key = subject_id is not None and self.services.vault.knows(subject_id)
        return Cause(
            actor=self.credential.actor,
            command=command.__name__,
            command_id=self.command_id,
            request_id=self.request_id,
            origin=facts.Origin(country=origin.country, network=origin.network_hash),
            sealed_address=self.services.usage_details.seal_address(subject_id, self.address)  # type: ignore[arg-type]
            if has_key
            else None,
        )

    async def count(self, bucket: str, per_minute: int | None, per_hour: int | None) -> None:
        """Count this request against a bucket. Raises RateLimitExceeded."""
        limiter = self.services.address_limiter if bucket.startswith("address:") else self.services.limiter
        self.quota = await limiter.hit(bucket, per_minute, per_hour, self.services.clock.monotonic())
        if self.quota.retry_after:
            raise RateLimitExceeded(self.quota.retry_after)

    async def count_by_address(self) -> None:
        """Count this request against its client's address."""
        await self.count(f"address:{self.origin.limit_key}", DEFAULT_PER_MINUTE, DEFAULT_PER_HOUR)

    async def count_by_token(self, claims: Claims) -> None:
        """Count this request against the activation that its token rests on."""
        await self.count(token_bucket(claims), DEFAULT_PER_MINUTE, DEFAULT_PER_HOUR)

    async def execute(
        self,
        order: Order,
        render: Render,
        status: int = 200,
        *,
        needs_views: bool = False,
        shows: Sequence[UUID] = (),
    ) -> Answer:
        """Have an order carried out; answer with what `render` makes of it, or as before to its idempotency key.

        `shows` are the data subjects whose personal data is in the answer: a kept one goes with them.

        Raises the domain's refusals, Unauthorized where the API key was revoked meanwhile, IdempotencyKeyReused and
        AnswerErased; OrderOutdated where the handler must begin anew.
        """
        keep, reopen = self._idempotency(status)
        api_key = self.credential.api_key
        shown = tuple(filter(self.services.vault.knows, shows))
        submission = Submission(order, render, needs_views, keep, api_key.key_id if api_key else None, shown)
        try:
            outcome = await self.services.writer.execute(submission)
        except Unauthorized:
            self.services.api_keys.forget(self.request.headers["X-API-Key"])
            raise
        if not isinstance(outcome, Replay):
            return Answer(status, outcome)
        assert keep is not None
        if outcome.was_erased:
            raise AnswerErased
        if outcome.body_hash != keep.body_hash:
            raise IdempotencyKeyReused
        first_status, _, body = reopen(outcome.answer_sealed).partition(b"\n")
        return Answer(int(first_status), body, {"Idempotency-Replayed": "true"})

    def idempotency_key(self) -> str | None:
        """Return the request's idempotency key where the endpoint takes one. Raises Invalid."""
        key = self.request.headers.get("Idempotency-Key")
        if key is None or not self.endpoint.takes_idempotency_key:
            return None
        if not (1 <= len(key) <= MAX_IDEMPOTENCY_KEY and key.isascii() and key.isprintable()):
            raise Invalid(**{"Idempotency-Key": f"must be 1 to {MAX_IDEMPOTENCY_KEY} visible ASCII characters"})
        return key

    async def check_not_erased(self, connection: Any) -> None:
        """Raise AnswerErased where the first answer to the idempotency key went with whom it showed.

        To be asked before anything is made of whom the request names: a repeat must not bring back who was erased.
        """
        key = self.idempotency_key()
        if key is None:
            return
        cursor = await connection.execute(_WAS_ERASED, (_scope_hash(self._scope(), key), self.now))
        if await cursor.fetchone() is not None:
            raise AnswerErased

    def _scope(self) -> bytes:
        resource = sorted(self.request.match_info.items()) if self.endpoint.has_parameters else []
        return repr((self.credential.actor, self.endpoint.method, self.endpoint.path, resource)).encode()

    def _idempotency(self, status: int) -> tuple[Idempotency | None, Any]:
        key = self.idempotency_key()
        if key is None:
            return None, None
        scope, vault = self._scope(), self.services.vault
        keep = Idempotency(
            scope_hash=_scope_hash(scope, key),
            body_hash=hashlib.sha256(json.dumps(self.raw_body, sort_keys=True).encode()).digest(),
            seal=lambda body: vault.seal_answer(key, scope, b"%d\n%b" % (status, body)),
        )
        return keep, lambda sealed: vault.open_answer(key, scope, sealed)


def _scope_hash(scope: bytes, key: str) -> bytes:
    return hashlib.sha256(scope + b"\n" + key.encode()).digest()
