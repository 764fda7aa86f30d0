"""What handlers work with, put together once by the composition root."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg_pool import AsyncConnectionPool

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
from infra.first_start import Credentials
from infra.keyring import Keyring
from infra.network import ClientAddress, Networks
from infra.senders import Senders
from infra.settings import Settings
from infra.subjects import Subjects
from infra.tokens import Tokens
from infra.vault import Vault
from projections.license_keys import FoundLicense, LicenseKeys
from projections.log_watch import LogWatch
from projections.standing import Standing
from projections.verdicts import Key, StandingCache

Pool = AsyncConnectionPool[AsyncConnection[DictRow]]

ANALYSES_AT_ONCE = 2
"""Long queries under way in this process; more would keep the pool's connections from the programs that validate."""


@dataclass(slots=True, kw_only=True)
class Services:
    """Everything that a request may need. Owned, started and closed by the composition root."""

    settings: Settings
    secrets: Credentials
    clock: Clock
    pool: Pool
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
    decode_event: Callable[[dict[str, Any]], Recorded]
    misses: MissLimiter = field(default_factory=MissLimiter)
    licenses_api_misses: MissLimiter = field(default_factory=MissLimiter)
    _checking: asyncio.Task[None] | None = None
    analyses: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ANALYSES_AT_ONCE))

    def suspect_connections(self) -> None:
        """Have the pool look through its idle connections, since one was lost: after a restart all of them are."""
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self.pool.check())
