"""A device at a moment: what all detectors of a sighting look at."""

from __future__ import annotations

import msgspec

from domain.anomalies.observation import Observation
from domain.anomalies.state import LicenseState


class Scene(msgspec.Struct, gc=False):
    """An observation of a device, with what is remembered of its licence.

    `now` is whole seconds since 1970, `name` the tag of the hardware id, `network` that of the network or 0.
    """

    state: LicenseState
    seen: Observation
    now: int
    name: int
    network: int
    succeeded: bool
