"""The orders of one transaction: what each decides, what is recorded, what each caller is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from psycopg import Connection

from commands.aggregates import AggregateCache
from commands.handlers import HANDLERS, Aggregate
from commands.orders import Order
from commands.recorder import IdempotentAnswer
from domain.api_key import ApiKey
from domain.errors import Refusal, Unauthorized
from domain.facts import Recorded


class VersionConflict(Exception):
    """Another process recorded an event of the same aggregate first."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an order led to: its events, and the aggregates it concerned as they are right after it."""

    order: Order
    recorded: tuple[Recorded, ...]
    states: tuple[Aggregate | None, ...]


Render = Callable[[Outcome, Connection[Any]], bytes]
"""Makes the answer's body, before the commit; the connection sees the transaction's own writes."""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """How an order's answer is kept: `seal` encrypts it under the caller's idempotency key."""

    scope_hash: bytes
    body_hash: bytes
    seal: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Replay:
    """The first answer to this idempotency key, still sealed, and the hash of the body it answered.

    Both are empty where whom it showed was erased.
    """

    body_hash: bytes
    answer_sealed: bytes

    @property
    def was_erased(self) -> bool:
        """Tell whether the answer went with the data of whom it showed."""
        return not self.answer_sealed


@dataclass(eq=False, slots=True)
class Submission:
    """An order with how to render and keep its answer.

    `needs_views` says that rendering reads the views, so that it must wait until they are written. `api_key_id` is by
    which key it was ordered, if it must still be good. `shows` are the data subjects whom the answer tells of.
    """

    order: Order
    render: Render
    needs_views: bool = False
    idempotency: Idempotency | None = None
    api_key_id: UUID | None = None
    shows: tuple[UUID, ...] = ()


@dataclass(eq=False, slots=True)
class Batch:
    """Decides its submissions in order, each on the state that the ones before it have left."""

    submissions: list[Submission]
    deferred: list[Submission] = field(default_factory=list)
    recorded: list[Recorded] = field(default_factory=list)
    _results: dict[int, Any] = field(default_factory=dict)
    _outcomes: list[tuple[Submission, Outcome]] = field(default_factory=list)

    @classmethod
    def of(cls, submissions: Sequence[Submission]) -> Batch:
        """Make a batch of the submissions whose idempotency keys differ; the rest is deferred."""
        batch = cls([])
        keys: set[bytes] = set()
        for submission in submissions:
            key = submission.idempotency and submission.idempotency.scope_hash
            if key and key in keys:
                batch.deferred.append(submission)
                continue
            if key:
                keys.add(key)
            batch.submissions.append(submission)
        return batch

    def find_replays(self, connection: Connection[Any]) -> None:
        """Look up the first answers of the idempotency keys in this batch."""
        keyed = {s.idempotency.scope_hash: s for s in self.submissions if s.idempotency}
        if not keyed:
            return
        now = max(s.order.now for s in keyed.values())
        rows = connection.execute(
            "SELECT scope_hash, body_hash, answer_sealed FROM idempotency"
            " WHERE scope_hash = ANY(%s) AND created_at > %s - interval '24 hours'",
            (list(keyed), now),
        ).fetchall()
        for row in rows:
            submission = keyed[bytes(row["scope_hash"])]
            self._results[id(submission)] = Replay(bytes(row["body_hash"]), bytes(row["answer_sealed"]))

    def aggregate_ids(self) -> list[UUID]:
        """Ids of the aggregates that must be in memory to decide."""
        ids: dict[UUID, None] = {}
        for submission in self._undecided():
            concerned, _ = HANDLERS[type(submission.order)]
            ids.update(dict.fromkeys(concerned(submission.order)))
            if submission.api_key_id is not None:
                ids[submission.api_key_id] = None
        return list(ids)

    def decide(self, aggregates: AggregateCache) -> None:
        """Decide every submission that is no replay; apply its facts to the aggregates at once.

        Whose API key is revoked by then, perhaps by an order before it, is refused, replay or not.
        """
        for submission in self.submissions:
            if submission.api_key_id is not None and not _is_good(aggregates.get(submission.api_key_id)):
                self._results[id(submission)] = Unauthorized("The API key is not valid")
            if id(submission) in self._results:
                continue
            try:
                outcome = _decide(submission.order, aggregates)
            except Refusal as refusal:
                self._results[id(submission)] = refusal
                continue
            self.recorded.extend(outcome.recorded)
            if submission.needs_views:
                self._outcomes.append((submission, outcome))
            else:
                # Rendered now, since a later order of this batch may change the aggregate.
                self._results[id(submission)] = submission.render(outcome, None)  # type: ignore[arg-type]

    def has_answers_to_store(self) -> bool:
        """Tell whether there is something to do in a transaction even without events."""
        return bool(self._outcomes) or any(
            s.idempotency and isinstance(self._results.get(id(s)), bytes) for s in self.submissions
        )

    def finish(self, connection: Connection[Any]) -> list[IdempotentAnswer]:
        """Render what reads the views, and seal the answers that are kept."""
        for submission, outcome in self._outcomes:
            self._results[id(submission)] = submission.render(outcome, connection)
        kept: list[IdempotentAnswer] = []
        for submission in self.submissions:
            answer = self._results.get(id(submission))
            if submission.idempotency and isinstance(answer, bytes):
                keep = submission.idempotency
                sealed = keep.seal(answer)
                kept.append(
                    IdempotentAnswer(
                        keep.scope_hash, keep.body_hash, sealed, submission.order.now, sorted(set(submission.shows))
                    )
                )
        return kept

    def answers(self) -> list[Any]:
        """Return for each submission its answer (bytes), Replay or Refusal."""
        return [self._results[id(submission)] for submission in self.submissions]

    def _undecided(self) -> list[Submission]:
        return [submission for submission in self.submissions if id(submission) not in self._results]


def _is_good(key: Aggregate | None) -> bool:
    return isinstance(key, ApiKey) and not key.is_revoked


def _decide(order: Order, aggregates: AggregateCache) -> Outcome:
    concerned, decision = HANDLERS[type(order)]
    ids = concerned(order)
    decided = decision(order, {aggregate_id: aggregates.get(aggregate_id) for aggregate_id in ids})
    recorded: list[Recorded] = []
    for aggregate_id, subject_id, facts in decided:
        state = aggregates.get(aggregate_id)
        version = state.version if state else 0
        for offset, fact in enumerate(facts, 1):
            event = Recorded(
                originator_id=aggregate_id,
                originator_version=version + offset,
                event_id=UUID(bytes=os.urandom(16), version=4),
                occurred_at=order.now,
                subject_id=subject_id,
                cause=order.cause,
                fact=fact,
            )
            aggregates.apply(event)
            recorded.append(event)
    return Outcome(order, tuple(recorded), tuple(aggregates.get(aggregate_id) for aggregate_id in ids))
