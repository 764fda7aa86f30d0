"""What handlers work with, put together once by the composition root."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
from psycopg_pool import PoolTimeout, TooManyRequests

from api.credential_store import ApiKeys, NamedAdmins
from api.fan_out import FanOutWatch
from api.metrics import Metrics
from api.rate_limits import MissLimiter, RateLimiter
from api.shared_reads import SharedReads
from api.usage_details import UsageDetails
from commands.usage_log import UsageLog
from commands.writer import GroupCommitWriter
from domain.facts import Recorded
from infra.clock import Clock
from infra.erasure_register import ErasureRegister
from infra.first_start import Credentials
from infra.keyring import Keyring
from infra.network import ClientAddress, Networks
from infra.pulse import DatabaseAway, Pulse
from infra.senders import Senders
from infra.settings import Settings
from infra.subjects import Subjects
from infra.tokens import Tokens
from infra.vault import Vault
from infra.watched_connections import RequestPool
from projections.license_keys import FoundLicense, LicenseKeys
from projections.log_watch import LogWatch
from projections.standing import Standing
from projections.verdicts import Key, StandingCache

ANALYSES_AT_ONCE = 2
"""Long queries under way in this process; more would keep the pool's connections from the programs that validate."""


@dataclass(slots=True, kw_only=True)
class Services:
    """Everything that a request may need. Owned, started and closed by the composition root."""

    settings: Settings
    secrets: Credentials
    clock: Clock
    pool: RequestPool
    pulse: Pulse
    writer: GroupCommitWriter
    usage: UsageLog
    watch: LogWatch
    standings: StandingCache
    standings_by_key: SharedReads[Key, Standing]
    standings_by_id: SharedReads[Key, Standing]
    license_keys: LicenseKeys
    licenses_by_key: SharedReads[bytes, FoundLicense]
    api_keys: ApiKeys
    admins: NamedAdmins
    vault: Vault
    usage_details: UsageDetails
    senders: Senders
    subjects: Subjects
    keyring: Keyring
    tokens: Tokens
    limiter: RateLimiter
    address_limiter: RateLimiter
    networks: Networks
    client_address: ClientAddress
    metrics: Metrics
    fan_out: FanOutWatch
    register: ErasureRegister
    decode_event: Callable[[dict[str, Any]], Recorded]
    misses: MissLimiter = field(default_factory=MissLimiter)
    licenses_api_misses: MissLimiter = field(default_factory=MissLimiter)
    _renewing: asyncio.Task[None] | None = None
    analyses: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ANALYSES_AT_ONCE))

    def forget_subjects(self, subject_ids: Collection[UUID]) -> None:
        """Drop the keys of data subjects that were erased, and all that was made with them, from memory."""
        if not subject_ids:
            return
        self.senders.forget(subject_ids)
        self.usage_details.forget(subject_ids)
        self.standings.drop_subjects(subject_ids)

    def suspect_connections(self, error: BaseException) -> None:
        """Where a connection was lost, put new ones in place of the pool's: after a restart all of them are.

        An error that the server itself reported, such as a query that took too long, says nothing of others; nor does
        it that there are none.
        """
        if not isinstance(error, psycopg.OperationalError) or isinstance(error, _SAY_NOTHING_OF_CONNECTIONS):
            return
        if error.sqlstate is None or error.sqlstate[:3] == _SHUTDOWN:
            self.renew_connections()

    def renew_connections(self) -> None:
        """Put new connections in place of those in the pool."""
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self.pool.drain())


_SAY_NOTHING_OF_CONNECTIONS = (DatabaseAway, PoolTimeout, TooManyRequests)
_SHUTDOWN = "57P"
"""What SQLSTATEs begin with that tell of the server's end, or of the session's."""
