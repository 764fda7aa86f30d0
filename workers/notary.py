"""Signs the tree over the event log, every ten seconds at most, and only what extends what was signed last."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import psycopg
from psycopg import AsyncConnection

from domain.audit import checkpoint as checkpoints
from domain.audit.checkpoint import BadCheckpoint, Checkpoint, Note, Sign, VerifierKey, Verify
from domain.audit.tiles import WIDTH
from projections import checkpoints as stored
from projections.audit_tree import TreeGap, edge_after, root_at
from workers.growing import Grown, Inconsistent, begin, grow
from workers.lease import Lease

log = logging.getLogger(__name__)

WORKER = "notary"

SIGN_SECONDS = 10.0
"""Between two checkpoints."""
LOOK_SECONDS = 1.0
STANDBY_SECONDS = 1.0
REFUSED_SECONDS = 2.0
"""After it has refused, until it looks whether things are in order again."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
_LONGEST_TROUBLE = 300

_KEEP_KEY = "INSERT INTO audit_keys (verifier_key) VALUES (%s) ON CONFLICT DO NOTHING"
_KEEP = "INSERT INTO audit_checkpoints (size, position, root, note) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"
_COUNT = "SELECT count(*) AS events FROM licensing_events"
# Health tells by it how old the oldest event is that no checkpoint covers.
_MOVE = """
    INSERT INTO consumers (consumer, event_position, usage_position) VALUES (%(worker)s, %(position)s, NULL)
    ON CONFLICT (consumer) DO UPDATE
        SET event_position = greatest(consumers.event_position, excluded.event_position), moved_at = clock_timestamp()
"""


class Kept(Protocol):
    """Where the last checkpoint is kept outside the database."""

    def read(self) -> str | None:
        """Return its text, or None. Raises OSError."""

    def write(self, note: str) -> None:
        """Put it in place of the last one, durably. Raises OSError."""


class Push(Protocol):
    """Sends checkpoints off the host. What is sent later makes up for what could not be sent."""

    trouble: str

    def offer(self, note: str) -> None:
        """Have a checkpoint sent, in place of one that still waits; return at once."""

    async def run(self) -> None:
        """Send until cancelled."""


def _parsed(which: str, text: str) -> Note:
    try:
        return checkpoints.parse(text)
    except BadCheckpoint as error:
        raise BadCheckpoint(f"{which} can't be read: {error}") from error


class Notary:
    """Owns a connection to PostgreSQL, whose rows are dicts. `key` and `sign` are its public key and its signing.

    `sign_seconds` are between two checkpoints, SIGN_SECONDS by default. `trouble` says in one line what keeps it from
    signing, or from sending checkpoints away.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what it reads, signs by, keeps, and whom it tells
        self,
        connect: Callable[[], Awaitable[AsyncConnection[Any]]],
        key: VerifierKey,
        sign: Sign,
        verify: Verify,
        kept: Kept,
        pushes: Sequence[Push] = (),
        sign_seconds: float | None = None,
    ) -> None:
        self._connect = connect
        self._key = key
        self._sign = sign
        self._verify = verify
        self._kept = kept
        self._pushes = pushes
        self._sign_seconds = SIGN_SECONDS if sign_seconds is None else sign_seconds
        self._lease = Lease(WORKER)
        self._connection: AsyncConnection[Any] | None = None
        self._grown: Grown | None = None
        self._signed: list[Checkpoint] = []
        self._stored = 0
        self._sign_at = 0.0
        self._pause = FIRST_PAUSE_SECONDS
        self._refusal = ""
        self._said = ""

    @property
    def trouble(self) -> str:
        """What is wrong, for health; empty where nothing is."""
        return "; ".join(filter(None, (self._refusal, *(push.trouble for push in self._pushes))))[:_LONGEST_TROUBLE]

    async def run(self) -> None:
        """Work until cancelled."""
        pushing = [asyncio.create_task(push.run()) for push in self._pushes]
        try:
            while True:
                pause = await self._turn()
                await asyncio.sleep(pause)
        finally:
            for task in pushing:
                task.cancel()
            await asyncio.gather(*pushing, return_exceptions=True)
            await self._close()

    async def _turn(self) -> float:
        """Do what can be done now; return for how many seconds to pause."""
        try:
            pause = await self._work()
        except (Inconsistent, TreeGap, BadCheckpoint) as error:
            self._grown = None
            self._refusal = f"does not sign: {await self._shortness() or error}"
            self._say(logging.ERROR, self._refusal)
            return REFUSED_SECONDS
        except (psycopg.Error, OSError) as error:
            self._say(logging.WARNING, f"waits: {str(error).splitlines()[0] if str(error) else repr(error)}")
            if isinstance(error, OSError):
                self._refusal = f"can't read or keep its checkpoint: {error.strerror or type(error).__name__}"
            await self._drop_connection()
            pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE_SECONDS)
            return pause
        self._pause = FIRST_PAUSE_SECONDS
        return pause

    async def _work(self) -> float:
        if self._connection is None or self._connection.closed:
            self._grown = None
            self._connection = await self._connect()
        connection = self._connection
        if not await self._lease.hold(connection, self.trouble):
            self._grown, self._refusal = None, ""
            self._say(logging.INFO, "stands by")
            return STANDBY_SECONDS
        if self._grown is None:
            self._signed = await self._last_signed(connection)
            last = max((one.size for one in self._signed), default=0)
            grown = await begin(connection, last)
            if grown.tiles == last // WIDTH:  # Not where tiles are made anew: then at the next checkpoint.
                await self._check_signed(connection)
            self._grown = grown
        before = self._grown
        self._grown = await grow(connection, before)
        if self._grown != before:
            return 0.0
        if time.monotonic() >= self._sign_at and await self._sign_next(connection, self._grown):
            self._sign_at = time.monotonic() + self._sign_seconds
        if self._refusal:
            self._refusal = ""
        self._say(logging.INFO, "works")
        return LOOK_SECONDS

    async def _last_signed(self, connection: AsyncConnection[Any]) -> list[Checkpoint]:
        """Return the last checkpoint of the database, if it is ours, and the one that is kept elsewhere.

        Raises BadCheckpoint where the one that is kept can't be read, OSError.
        """
        found: list[Checkpoint] = []
        kept = await asyncio.to_thread(self._kept.read)
        if kept is not None:
            found.append(_parsed("the checkpoint in the data folder", kept).checkpoint)
        newest = await stored.newest(connection)
        self._stored = newest.size if newest else 0
        if newest is not None:
            note = _parsed("the last checkpoint in the database", newest.note)
            # One by a key that was in use before is no less true, but nobody here can tell.
            if note.is_by(self._key):
                found.append(note.verified(self._key, self._verify))
        return [one for one in dict.fromkeys(found) if one.size]

    async def _check_signed(self, connection: AsyncConnection[Any]) -> None:
        """Compute what was signed last from tiles and events. Raises Inconsistent where it is something else."""
        for signed in self._signed:
            if await root_at(connection, signed.size) != signed.root:
                raise Inconsistent(f"the first {signed.size} events, or their tree, are not what was signed")

    async def _shortness(self) -> str:
        """Say that the log has become shorter, if that is why it does not fit what was signed."""
        last = max((one.size for one in self._signed), default=0)
        assert self._connection is not None
        try:
            row = await (await self._connection.execute(_COUNT)).fetchone()
        except psycopg.Error:
            return ""
        if row is None or row["events"] >= last:
            return ""
        return f"the log has {row['events']} events, but {last} were signed; was an older backup restored?"

    async def _sign_next(self, connection: AsyncConnection[Any], grown: Grown) -> bool:
        """Sign what there is now, if that is more than before; tell whether it was.

        What was kept, but did not come into the database any more, is signed again: it is the same.
        """
        edge = await edge_after(connection, grown.position)
        size = grown.size + edge.leaves
        last = max((one.size for one in self._signed), default=0)
        if size == last <= self._stored:
            return False
        await self._check_signed(connection)
        checkpoint = Checkpoint(self._key.name, size, await root_at(connection, size))
        note = checkpoints.sign(checkpoint, self._key, self._sign)
        # Outside the database first: what nobody has seen may be forgotten there, but never the other way round.
        await asyncio.to_thread(self._kept.write, note)
        self._signed = [checkpoint]
        position = edge.last_position or grown.position
        async with connection.transaction():
            await connection.execute(_KEEP_KEY, (str(self._key),))
            await connection.execute(_KEEP, (size, position, checkpoint.root, note))
            await connection.execute(_MOVE, {"worker": WORKER, "position": position})
        self._stored = size
        for push in self._pushes:
            push.offer(note)
        return True

    def _say(self, level: int, what: str) -> None:
        """Log what is going on where it is something else than before."""
        if what != self._said:
            self._said = what
            log.log(level, "the notary %s", what)

    async def _drop_connection(self) -> None:
        self._grown = None
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _close(self) -> None:
        if self._connection is not None and not self._connection.closed:
            try:
                await self._lease.give_up(self._connection)
            except psycopg.Error as error:
                log.info("the notary's lease runs out by itself: %s", str(error).partition("\n")[0])
        await self._drop_connection()
