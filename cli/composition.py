"""The composition root: settings in, running services out. Nothing else makes these parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from api.credential_store import ApiKeys, NamedAdmins
from api.fan_out import FanOutWatch
from api.metrics import Metrics
from api.rate_limits import MemoryRateLimiter, RateLimiter
from api.services import Services
from api.shared_rate_limits import RedisRateLimiter
from api.shared_reads import SharedReads
from api.usage_details import UsageDetails
from cli.core import compose_core
from commands.event_mapper import decoder
from commands.usage_log import UsageLog
from commands.writer import GroupCommitWriter
from infra.clock import Clock
from infra.first_start import Credentials
from infra.network import ClientAddress, Networks
from infra.places import Places
from infra.postgres import Database, watched
from infra.pulse import DatabaseAway, Pulse
from infra.senders import Senders
from infra.settings import Settings
from infra.subjects import Subjects
from infra.tokens import Tokens
from infra.watched_connections import RequestPool
from projections import standing
from projections.license_keys import LicenseKeys
from projections.log_watch import LogWatch
from projections.verdicts import StandingCache

START_SECONDS = 15.0
"""How long the database may take for the first answer: many processes may start at once."""


@asynccontextmanager
async def running_services(settings: Settings, database: Database, secrets: Credentials) -> AsyncIterator[Services]:
    """Start everything that requests need; finish what is under way and close it all at the end."""
    async with watched(database) as felt, _running(settings, felt, secrets) as services:
        yield services


@asynccontextmanager
async def _running(settings: Settings, database: Database, secrets: Credentials) -> AsyncIterator[Services]:
    pulse = database.pulse
    assert pulse is not None
    core = compose_core(settings, database)
    places = Places(settings.geo_database) if settings.geo_database else None
    pool = database.pool()
    clock = Clock()
    watch = LogWatch(lambda: clock.monotonic(), lambda erased: services.forget_subjects(erased))  # noqa: PLW0108 - both are replaced
    license_keys = LicenseKeys()
    metrics = Metrics()
    limiter = _limiter(settings, metrics)
    address_limiter = _limiter(settings, metrics)
    writer = GroupCommitWriter(core.application, database.connect, database.connect_login, lambda: pulse.is_away)
    usage = UsageLog(database.connect_async, database.connect_login, watch, settings.usage_wait_ms / 1000, pulse)
    services = Services(
        settings=settings,
        secrets=secrets,
        clock=clock,
        pool=pool,
        pulse=pulse,
        writer=writer,
        usage=usage,
        watch=watch,
        standings=StandingCache(watch),
        standings_by_key=SharedReads(pool, clock, standing.by_keys),
        standings_by_id=SharedReads(pool, clock, standing.by_ids),
        license_keys=license_keys,
        licenses_by_key=SharedReads(pool, clock, license_keys.find),
        api_keys=ApiKeys(pool, watch),
        admins=NamedAdmins(pool),
        vault=core.vault,
        usage_details=UsageDetails(core.vault),
        senders=Senders(core.vault, places),
        subjects=Subjects(core.vault),
        keyring=core.keyring,
        tokens=Tokens(core.keyring),
        limiter=limiter,
        address_limiter=address_limiter,
        networks=Networks(core.vault.lookup_hash, places),  # type: ignore[arg-type]  # its kinds are among the vault's
        client_address=ClientAddress(settings.trusted_proxies),
        metrics=metrics,
        fan_out=FanOutWatch(pool),
        register=core.register,
        decode_event=decoder(),
    )
    _register_gauges(services)
    metrics.families(services.fan_out.metrics)
    pulse.when_away(writer.give_up_waiting)
    pulse.when_away(usage.give_up_waiting)
    pulse.when_back(services.renew_connections)
    pulse.when_lost(services.renew_connections)
    await pool.open()
    try:
        await _look_first(clock, pool, pulse, watch)
        writer.start()
        usage.start()
        yield services
    finally:
        pulse.let_go()
        await writer.stop()
        await usage.stop()
        await limiter.close()
        await address_limiter.close()
        await pool.close()
        core.application.close()
        if places is not None:
            places.close()


async def _look_first(clock: Clock, pool: RequestPool, pulse: Pulse, watch: LogWatch) -> None:
    """Set the clock by the database's, and look where the log ends.

    Of whoever is erased from now on, this process hears.

    Raises ClockFault, and psycopg's errors where the database can't be asked in time.
    """
    try:
        async with asyncio.timeout(START_SECONDS):
            while True:
                await pulse.back()
                with suppress(DatabaseAway):
                    async with pool.connection(START_SECONDS) as connection:
                        await clock.adjust(connection)
                        seen = await (await connection.execute(watch.query())).fetchall()
                        watch.learn([tuple(row.values()) for row in seen])
                    return
    except TimeoutError:
        raise DatabaseAway("the database does not answer") from None


def _limiter(settings: Settings, metrics: Metrics) -> RateLimiter:
    if settings.redis_url is None:
        return MemoryRateLimiter()

    def on_fallback() -> None:
        metrics.count("rate_limit_fallbacks_total", "Requests counted in memory because Redis was away")

    return RedisRateLimiter(settings.redis_url.reveal(), on_fallback)


def _register_gauges(services: Services) -> None:
    writer, usage = services.writer, services.usage
    gauge, total = services.metrics.gauge, services.metrics.total
    gauge("writer_waiting", "Orders that wait for the writer", writer.waiting)
    total("writer_batches_total", "Transactions of the writer", lambda: writer.stats.batches)
    total("writer_orders_total", "Orders that the writer has decided", lambda: writer.stats.orders)
    total("writer_conflicts_total", "Batches decided again after a conflict", lambda: writer.stats.conflicts)
    gauge("usage_rows_queued", "Usage rows that wait to be stored", usage.queued)
    total("usage_rounds_total", "Rounds of the usage log, stored rows or not", lambda: usage.stats.rounds)
    total("writer_reconnects_total", "Connections of the writer that were lost", lambda: writer.stats.reconnects)
    total(
        "stale_sessions_ended_total",
        "Sessions ended that held the log's lock",
        lambda: writer.stats.stale_holders_ended,
    )
    total("usage_reconnects_total", "Connections of the usage log that were lost", lambda: usage.stats.reconnects)
    total("usage_rows_dropped_total", "Usage rows lost because too many waited", lambda: usage.stats.dropped)
    total("usage_rows_stored_total", "Usage rows stored", lambda: usage.stats.rows)
    total("usage_timeouts_total", "Rounds that were not stored in time", lambda: usage.stats.timeouts)
    gauge("standings_cached", "Standings in memory", lambda: len(services.standings))
    gauge("log_position", "Position up to which this process has seen the event log", lambda: services.watch.position)
    gauge("database_away", "1 while the database does not answer", lambda: int(services.pulse.is_away))
    total(
        "sessions_lost_total",
        "Sessions that the server would never have answered",
        lambda: services.pulse.lost_sessions,
    )
    gauge("clock_offset_seconds", "Correction of this machine's clock", lambda: services.clock.offset.total_seconds())  # noqa: PLW0108 - it is replaced
