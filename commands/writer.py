"""Group commit: one thread takes every order that waits, decides each, and saves all of them in one transaction.

The library is synchronous and one commit an order is slow (650 a second against several thousand). All answers,
refusals too, are given only after the commit, since a refusal may rest on the event of a batch-mate.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
from psycopg import Connection

from commands.aggregates import AggregateCache
from commands.application import LicensingApplication
from commands.batch import Batch, Replay, Submission, VersionConflict
from commands.recorder import EVENTS_LOCK, AnswerTaken, LicensingRecorder, terminate_stale_holders
from domain.errors import Refusal, ServiceUnavailable

log = logging.getLogger(__name__)

MAX_BATCH = 512
"""Orders of one transaction."""

MAX_WAITING = 10_000
"""Orders that may wait; more are refused at once, since their callers would have given up before their turn."""

MAX_ATTEMPTS = 8
"""How often a batch is decided again after conflicts with other processes."""

MAX_CONNECTIONS = 3
"""How often a batch is tried over a new connection, or after ending a stuck session."""

STOP_SECONDS = 15.0
"""How long the orders that wait may take when the process ends."""

OUTCOME_SECONDS = 20.0
"""How long a caller waits while the database answers: longer than ending stuck sessions takes, and not for ever."""


class NothingSaved(Exception):
    """The connection was lost before the commit: the batch is not in the log, and may be tried again."""


class OutcomeUnknown(Exception):
    """The connection was lost at the commit, and the log can't be asked: to decide again could contradict it."""


class _Waiting(NamedTuple):
    submission: Submission
    future: asyncio.Future[Any]


@dataclass(slots=True)
class WriterStats:
    """Counts since the start, for metrics."""

    batches: int = 0
    orders: int = 0
    conflicts: int = 0
    reconnects: int = 0
    stale_holders_ended: int = 0


class GroupCommitWriter:
    """Owns the writer thread and its connection. Start it on the event loop that will await the outcomes.

    `is_away` tells that the database can't be asked now: orders are refused at once then. Call `give_up_waiting` when
    that begins.
    """

    def __init__(
        self,
        application: LicensingApplication,
        connect: Callable[[], Connection[Any]],
        connect_login: Callable[[], Connection[Any]],
        is_away: Callable[[], bool] = lambda: False,
    ) -> None:
        recorder = application.recorder
        assert isinstance(recorder, LicensingRecorder)
        self._recorder = recorder
        self._application = application
        self._connect = connect
        self._connect_login = connect_login
        self._is_away = is_away
        self._awaited: set[asyncio.Future[Any]] = set()
        self._aggregates = AggregateCache(recorder, application.mapper)
        self._waiting: list[_Waiting] = []
        self._wake = threading.Condition()
        self._stopping = False
        self._connection: Connection[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self.stats = WriterStats()

    def start(self) -> None:
        """Start the thread. Call it with a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Finish what waits, then end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            # A server that hangs must not keep the process from ending; what is open is resolved by idempotency keys.
            await asyncio.to_thread(self._thread.join, STOP_SECONDS)

    def waiting(self) -> int:
        """Orders in the queue now."""
        return len(self._waiting)

    def give_up_waiting(self) -> None:
        """Tell all callers that the outcome is unknown. Their orders are carried out if they can be."""
        for future in list(self._awaited):
            _give_up(future)

    async def execute(self, submission: Submission) -> bytes | Replay:
        """Have an order decided and saved; return the rendered answer, or the first answer of its idempotency key.

        Raises the domain's Refusal, or ServiceUnavailable where the outcome is unknown, the queue is full, or the
        database is away.
        """
        assert self._loop is not None
        if self._is_away():
            raise ServiceUnavailable
        future: asyncio.Future[bytes | Replay] = self._loop.create_future()
        with self._wake:
            if self._stopping or len(self._waiting) >= MAX_WAITING:
                raise ServiceUnavailable
            self._waiting.append(_Waiting(submission, future))
            self._wake.notify()
        # An answer that nobody awaits any more is dropped, but the order is carried out all the same.
        timer = self._loop.call_later(OUTCOME_SECONDS, _give_up, future)
        self._awaited.add(future)
        try:
            return await future
        finally:
            self._awaited.discard(future)
            timer.cancel()

    # The thread.

    def _run(self) -> None:
        while batch := self._take():
            try:
                answers = self._process([waiting.submission for waiting in batch])
            except Exception:
                log.exception("the writer failed on a batch")
                answers = [ServiceUnavailable() for _ in batch]
            assert self._loop is not None
            futures = [waiting.future for waiting in batch]
            self._loop.call_soon_threadsafe(_resolve, futures, answers)
            if self._connection is not None and not self._connection.closed:
                self._aggregates.write_snapshots(self._connection)
        self._disconnect()

    def _take(self) -> list[_Waiting]:
        with self._wake:
            while not self._waiting and not self._stopping:
                self._wake.wait()
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
        return batch

    def _process(self, submissions: Sequence[Submission]) -> list[Any]:
        """Return an answer or an exception for each submission, in order."""
        answers: dict[int, Any] = {}
        pending = list(submissions)
        while pending:
            batch = Batch.of(pending)
            for submission, answer in zip(batch.submissions, self._carry_out(batch.submissions), strict=True):
                answers[id(submission)] = answer
            # A second order under one idempotency key waits for the first to be stored, and then replays it.
            pending = batch.deferred
        return [answers[id(submission)] for submission in submissions]

    def _carry_out(self, submissions: list[Submission]) -> list[Any]:
        attempts = 0
        conflicted = False
        while True:
            attempts += 1
            try:
                return self._attempt(submissions, under_lock=conflicted)
            except (VersionConflict, AnswerTaken):
                conflicted = True
                self.stats.conflicts += 1
                self._aggregates.clear_failed()
                if attempts < MAX_ATTEMPTS:
                    continue
            except (psycopg.OperationalError, psycopg.InternalError, NothingSaved, OutcomeUnknown) as error:
                self._aggregates.clear_failed()
                if attempts < MAX_CONNECTIONS and self._recover(error):
                    continue
                log.warning("the database can't take orders: %s", error.__cause__ or error)
                return [ServiceUnavailable() for _ in submissions]
            except Exception as error:  # noqa: BLE001 - whatever it is, only the order at fault may fail
                self._aggregates.clear_failed()
                if len(submissions) == 1:
                    return [error]
                log.info("deciding %d orders one by one after: %r", len(submissions), error)
            if len(submissions) == 1:
                return [ServiceUnavailable()]
            # Isolate: whichever order is at fault fails alone.
            return [answer for submission in submissions for answer in self._carry_out([submission])]

    def _attempt(self, submissions: list[Submission], *, under_lock: bool) -> list[Any]:
        """Decide and save a batch. Under the lock it can't conflict, so that no process starves on a busy licence."""
        connection = self._connected()
        batch = Batch.of(submissions)
        self._aggregates.refresh(connection, batch.aggregate_ids())
        if under_lock:
            with self._recorder.locked(connection):
                self._aggregates.refresh(connection, batch.aggregate_ids())
                self._decide(connection, batch, has_lock=True)
        else:
            self._decide(connection, batch, has_lock=False)
        self.stats.orders += len(submissions)
        return batch.answers()

    def _decide(self, connection: Connection[Any], batch: Batch, *, has_lock: bool) -> None:
        # After the aggregates: where they show what an idempotency key has led to, its answer must be found.
        batch.find_replays(connection)
        batch.decide(self._aggregates)
        if batch.recorded or batch.has_answers_to_store():
            self._save(connection, batch, has_lock=has_lock)
            self.stats.batches += 1

    def _save(self, connection: Connection[Any], batch: Batch, *, has_lock: bool) -> None:
        try:
            recordings = self._application.events.put(
                batch.recorded,
                recorded=batch.recorded,
                finish=batch.finish if batch.has_answers_to_store() else None,
                connection=connection,
                has_lock=has_lock,
            )
        except psycopg.errors.UniqueViolation as error:
            if error.diag.constraint_name == "licensing_events_pkey":
                raise VersionConflict from error
            raise
        except psycopg.OperationalError as error:
            if not connection.broken:
                raise
            self.stats.reconnects += 1
            if not self._was_committed(batch):
                raise NothingSaved from error
            self._aggregates.clear_failed()
            return
        self._aggregates.saved([recording.notification.id for recording in recordings])

    def _was_committed(self, batch: Batch) -> bool:
        """Find out, after a lost reply to COMMIT, whether the batch is in the log. Raises OutcomeUnknown."""
        failed: psycopg.OperationalError | None = None
        for _ in range(MAX_CONNECTIONS):
            try:
                return self._is_in_log(self._connected(), batch)
            except psycopg.OperationalError as error:
                failed = error
                if not self._recover(error):
                    break
        raise OutcomeUnknown from failed

    def _is_in_log(self, connection: Connection[Any], batch: Batch) -> bool:
        if not batch.recorded:
            return False
        first = batch.recorded[0]
        # The lost session may still be committing: reading under its lock waits for it to end.
        with self._recorder.locked(connection):
            stored = self._recorder.of_aggregate(connection, first.originator_id)
        for event in stored:
            if event.originator_version == first.originator_version:
                found: Any = self._application.mapper.to_domain_event(event)
                return bool(found.cause.command_id == first.cause.command_id)
        return False

    def _connected(self) -> Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
            # psycopg deallocates the recorder's prepared statements along with its own.
            self._connection.prepare_threshold = None
            self._aggregates.clear()
        return self._connection

    def _recover(self, error: Exception) -> bool:
        """Do what makes another attempt worth while; tell whether something was done."""
        if isinstance(error, psycopg.errors.LockNotAvailable):
            return self._end_stale_holders()
        if isinstance(error, NothingSaved):
            return True
        if isinstance(error, psycopg.InternalError):
            # Such as a server that became read-only: what it was connected to is not the primary any more.
            self._disconnect()
            return True
        if isinstance(error, psycopg.OperationalError) and self._connection is not None and self._connection.broken:
            self.stats.reconnects += 1
            return True
        return False

    def _end_stale_holders(self) -> bool:
        try:
            with self._connect_login() as login:
                ended = terminate_stale_holders(login, EVENTS_LOCK)
        except psycopg.OperationalError:
            return False
        self.stats.stale_holders_ended += ended
        log.warning("ended %d stale sessions that held the log's lock", ended)
        return True

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()


def _give_up(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(ServiceUnavailable())


def _resolve(futures: Sequence[asyncio.Future[Any]], answers: Sequence[Any]) -> None:
    for future, answer in zip(futures, answers, strict=True):
        if future.done():
            continue
        if isinstance(answer, Refusal | Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
