"""What was signed of the tree, as it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.audit.merkle import Hash

_COLUMNS = "size, position, root, note, signed_at"
_NEWEST = f"SELECT {_COLUMNS} FROM audit_checkpoints ORDER BY size DESC LIMIT 1"  # noqa: S608 - constants
_OF_SIZE = f"SELECT {_COLUMNS} FROM audit_checkpoints WHERE size = %s"  # noqa: S608
_KEYS = "SELECT verifier_key FROM audit_keys ORDER BY first_used_at DESC"


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint: of `size` events, the last one at `position`; `note` is what is handed out."""

    size: int
    position: int
    root: Hash
    note: str
    signed_at: datetime


async def newest(connection: Any) -> Signed | None:
    """Return the last checkpoint; None where nothing was signed yet."""
    row = await (await connection.execute(_NEWEST)).fetchone()
    return None if row is None else Signed(**row)


async def of_size(connection: Any, size: int) -> Signed | None:
    """Return the checkpoint of so many events, if there is one."""
    row = await (await connection.execute(_OF_SIZE, (size,))).fetchone()
    return None if row is None else Signed(**row)


async def verifier_keys(connection: Any) -> list[str]:
    """Return the public keys that have signed, the one that began last first."""
    return [row["verifier_key"] for row in await (await connection.execute(_KEYS)).fetchall()]
