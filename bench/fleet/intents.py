"""What clients and admins want of the server, before it has decided."""

from __future__ import annotations

from typing import Literal, NamedTuple

from bench.fleet.devices import Device
from bench.fleet.networks import Network

Action = Literal[
    "start",  # a program starts: it validates, and activates first where its device has no seat
    "validate",  # it asks, and does nothing about a refusal
    "activate",  # it asks for a seat, and does nothing about a refusal
    "heartbeat",
    "deactivate",
    "transfer",  # from `partner` to `device`
    "release",  # an admin takes the seat of `device` back
    "issue",
    "terms",  # an admin sells other terms: `terms`
    "suspend",
    "resume",
]
OF_CLIENTS: frozenset[str] = frozenset({"start", "validate", "activate", "heartbeat", "deactivate", "transfer"})


class Terms(NamedTuple):
    """What is sold: more seats, or a longer term (its end in seconds since 1970; None leaves it as it is)."""

    more_devices: int = 0
    expires_at: float | None = None


class Intent(NamedTuple):
    """One request. `abuse` marks those that an honest customer would not make; `tries` counts repeats so far."""

    time: float
    action: Action
    device: Device | None = None
    network: Network | None = None
    partner: Device | None = None
    terms: Terms | None = None
    abuse: bool = False
    tries: int = 0


def by_time(intent: Intent) -> float:
    """Sort by time."""
    return intent.time
