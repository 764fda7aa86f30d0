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
from projections.checkpoints import Signed
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
        self._offered = ""
        self._is_new_key_told = False
        self._sign_at = 0.0
        self._pause = FIRST_PAUSE_SECONDS
        self._refusal = ""
        self._refused_for = ""
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
            # The whole log is counted once for each fault, not with each look.
            if self._refused_for != str(error):
                self._refusal = f"does not sign: {await self._shortness() or error}"
                self._refused_for = str(error)
            self._say(logging.ERROR, self._refusal)
            return REFUSED_SECONDS
        except (psycopg.Error, OSError) as error:
            self._say(logging.WARNING, f"waits: {str(error).splitlines()[0] if str(error) else repr(error)}")
            if isinstance(error, OSError):
                self._refusal = f"can't read or keep its checkpoint: {error.strerror or type(error).__name__}"
                self._refused_for = ""
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
            self._grown, self._refusal, self._refused_for = None, "", ""
            self._say(logging.INFO, "stands by")
            return STANDBY_SECONDS
        is_due = time.monotonic() >= self._sign_at
        if is_due and await self._size_in(connection) != self._stored:
            self._grown = None  # Somebody has put a checkpoint there, or has taken ours away.
        before = self._grown or await self._begin(connection)
        self._grown = await grow(connection, before)
        is_behind = self._grown != before
        # Also where events come faster than it gets through them. Tiles that are made anew come first.
        is_anew = is_behind and self._grown.size < self._last_size
        if is_due and not is_anew and await self._sign_next(connection, self._grown):
            self._sign_at = time.monotonic() + self._sign_seconds
        if is_behind:
            return 0.0
        self._refusal = self._refused_for = ""
        self._say(logging.INFO, "works")
        return LOOK_SECONDS

    async def _begin(self, connection: AsyncConnection[Any]) -> Grown:
        """Look at what was signed last, and return where the tree goes on."""
        self._signed = await self._last_signed(connection)
        grown = await begin(connection, self._last_size)
        if grown.tiles == self._last_size // WIDTH:  # Not where tiles are made anew: then at the next checkpoint.
            await self._check_signed(connection)
        return grown

    @staticmethod
    async def _size_in(connection: AsyncConnection[Any]) -> int:
        newest = await stored.newest(connection)
        return newest.size if newest else 0

    @property
    def _last_size(self) -> int:
        return max((one.size for one in self._signed), default=0)

    async def _last_signed(self, connection: AsyncConnection[Any]) -> list[Checkpoint]:
        """Return the last checkpoint of the database and the one that is kept elsewhere; have the newer one sent.

        Raises BadCheckpoint where one of them is not good, OSError.
        """
        notes: list[Note] = []
        kept = await asyncio.to_thread(self._kept.read)
        if kept is not None:
            notes.append(self._opened("the checkpoint in the data folder", kept))
        newest = await stored.newest(connection)
        self._stored = newest.size if newest else 0
        if newest is not None:
            notes.append(self._checked(newest))
        self._offer_again(notes)
        return [one for one in dict.fromkeys(note.checkpoint for note in notes) if one.size]

    def _checked(self, row: Signed) -> Note:
        """Return a checkpoint of the database. Raises BadCheckpoint."""
        which = f"the checkpoint of {row.size} in the database"
        note = self._opened(which, row.note)
        if (note.checkpoint.size, note.checkpoint.root) != (row.size, row.root):
            raise BadCheckpoint(f"{which} says other than its note")
        return note

    def _opened(self, which: str, text: str) -> Note:
        """Return a checkpoint whose signature is right where it is by our key. Raises BadCheckpoint.

        Whether another key was in use before, nobody here can tell. What it has signed must be true of the log too:
        whoever loses the key and makes a new one may not rewrite what was signed by it.
        """
        try:
            note = checkpoints.parse(text)
        except BadCheckpoint as error:
            raise BadCheckpoint(f"{which} can't be read: {error}") from error
        if note.is_by(self._key):
            note.verified(self._key, self._verify)
        elif not self._is_new_key_told:
            self._is_new_key_told = True
            log.warning("the notary signs by another key or name than %s: tell your auditors", which)
        return note

    def _offer_again(self, notes: Sequence[Note]) -> None:
        """Have the newest one of ours sent: nobody knows whether that was done before this process began."""
        ours = [note for note in notes if note.is_by(self._key)]
        if ours and self._pushes:
            newest = max(ours, key=lambda note: note.checkpoint.size).text
            if newest != self._offered:
                self._offer(newest)

    def _offer(self, note: str) -> None:
        self._offered = note
        for push in self._pushes:
            push.offer(note)

    async def _check_signed(self, connection: AsyncConnection[Any]) -> None:
        """Compute what was signed last from tiles and events. Raises Inconsistent where it is something else."""
        for signed in self._signed:
            if await root_at(connection, signed.size) != signed.root:
                raise Inconsistent(f"the first {signed.size} events, or their tree, are not what was signed")

    async def _shortness(self) -> str:
        """Say that the log has become shorter, if that is why it does not fit what was signed."""
        last = self._last_size
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
        if size == self._last_size <= self._stored:
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
            if not (await connection.execute(_KEEP, (size, position, checkpoint.root, note))).rowcount:
                await self._compare(connection, checkpoint)
            await connection.execute(_MOVE, {"worker": WORKER, "position": position})
        self._stored = size
        self._offer(note)
        return True

    async def _compare(self, connection: AsyncConnection[Any], checkpoint: Checkpoint) -> None:
        """Raise Inconsistent where the database holds another checkpoint of that size, which somebody has put there."""
        there = await stored.of_size(connection, checkpoint.size)
        if there is None or self._checked(there).checkpoint.root != checkpoint.root:
            raise Inconsistent(f"the checkpoint of {checkpoint.size} in the database is not what the events give")

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
