"""Who does a worker's work: the one process that holds its lease. Others stand by until it has run out."""

from __future__ import annotations

import os
import socket
import time
from typing import Any
from uuid import uuid4

from psycopg import AsyncConnection, Connection

LEASE_SECONDS = 6.0
"""How long a holder that is not heard of keeps the others waiting."""
RENEW_SECONDS = 2.0

# The database's clock alone decides, so that machines need not agree on the time.
_HOLD = """
    INSERT INTO leases (worker, holder, holder_name, expires_at, trouble)
    VALUES (%(worker)s, %(holder)s, %(name)s, clock_timestamp() + make_interval(secs => %(seconds)s), %(trouble)s)
    ON CONFLICT (worker) DO UPDATE
        SET holder = excluded.holder, holder_name = excluded.holder_name, expires_at = excluded.expires_at,
            trouble = excluded.trouble
        WHERE leases.holder = excluded.holder OR leases.expires_at < clock_timestamp()
    RETURNING true
"""

_GIVE_UP = "DELETE FROM leases WHERE worker = %s AND holder = %s"


class Lease:
    """One process's claim on a worker's work.

    A holder that was frozen does not know that its lease has run out: what it writes must be guarded besides, by the
    position that it started from.
    """

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.holder = uuid4()
        self._renew_at = 0.0
        self._trouble = ""

    async def hold(self, connection: AsyncConnection[Any], trouble: str = "") -> bool:
        """Take the lease or renew it where that is due; tell whether this process may work.

        `trouble` is what health says of the holder: why it can't do its work, in one line. Raises psycopg's errors.
        """
        if time.monotonic() < self._renew_at and trouble == self._trouble:
            return True
        self._trouble = trouble
        return self._note(held=(await connection.execute(_HOLD, self._wanted())).rowcount == 1)

    def hold_now(self, connection: Connection[Any]) -> bool:
        """Do the same as `hold`, on a synchronous connection."""
        if time.monotonic() < self._renew_at:
            return True
        return self._note(held=connection.execute(_HOLD, self._wanted()).rowcount == 1)

    async def give_up(self, connection: AsyncConnection[Any]) -> None:
        """Let the next one begin at once."""
        self._renew_at = 0.0
        await connection.execute(_GIVE_UP, (self.worker, self.holder))

    def give_up_now(self, connection: Connection[Any]) -> None:
        """Do the same as `give_up`, on a synchronous connection."""
        self._renew_at = 0.0
        connection.execute(_GIVE_UP, (self.worker, self.holder))

    def _wanted(self) -> dict[str, Any]:
        return {
            "worker": self.worker,
            "holder": self.holder,
            "name": f"{socket.gethostname()}:{os.getpid()}",
            "seconds": LEASE_SECONDS,
            "trouble": self._trouble,
        }

    def _note(self, *, held: bool) -> bool:
        self._renew_at = time.monotonic() + RENEW_SECONDS if held else 0.0
        return held
