"""The asynchronous projections, and which worker has which consumers."""

from __future__ import annotations

from projections.behaviour import CONSUMER as ANOMALY
from projections.device_usage import DEVICE_USAGE
from projections.projection import Projection
from projections.seats import SEATS
from projections.usage_counts import USAGE_COUNTS

ASYNCHRONOUS: tuple[Projection, ...] = (USAGE_COUNTS, DEVICE_USAGE, SEATS)
"""What the projector keeps up with the logs."""

CONSUMERS_OF: dict[str, tuple[str, ...]] = {
    "projector": tuple(projection.name for projection in ASYNCHRONOUS),
    "anomaly": (ANOMALY,),
    "notary": ("notary",),
    "relay": ("relay",),
}
"""The consumers of each worker."""
