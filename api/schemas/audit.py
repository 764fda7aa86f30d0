"""Query parameters of the proofs. What is answered is in `projections.audit_receipts`."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

Size = Annotated[int, Meta(ge=1, le=2**63 - 1, description="events in a tree, as a checkpoint's second line says it")]


class InclusionQuery(msgspec.Struct, kw_only=True):
    """Which event, and in which tree; without a size, in the last checkpoint's."""

    event_id: UUID
    size: Size | None = None


class ConsistencyQuery(msgspec.Struct, kw_only=True):
    """Which trees; without `to_size`, the last checkpoint's is the later one."""

    from_size: Size
    to_size: Size | None = None
