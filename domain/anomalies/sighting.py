"""A device shows itself: what each detector makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from domain.anomalies import (
    accepting,
    clock_rollback,
    cloned_hardware_id,
    credential_sharing,
    hammering,
    impossible_travel,
    leaked_key,
    reseller_rotation,
)
from domain.anomalies.findings import KINDS, NOTHING
from domain.anomalies.linking import arrive, follow, is_departed, is_exclusive, keep
from domain.anomalies.observation import INTERACTIVE, Observation, is_server, network_tag, os_tag, tag
from domain.anomalies.scene import Scene
from domain.anomalies.state import Device, LicenseState, forget_moves, prove
from domain.anomalies.thresholds import DAY, Thresholds

(_, LEAKED_KEY, SHARING, TRAVEL, CLONE, ROTATION, HAMMERING, ROLLBACK) = range(len(KINDS))

_NO_SEAT = frozenset({"DEVICE_LIMIT_EXCEEDED", "DEVICE_NOT_ACTIVATED", None})
"""Reasons that say something about the device; with others, such as an expired licence, any is refused."""

_PROOF_SECONDS = 14 * DAY


class Tell(Protocol):
    """Takes what a detector found."""

    def __call__(self, state: LicenseState, seen: Observation, kind: int, rank: int, say: Callable[[], str]) -> None:
        """Tell it, unless it is to stay quiet; `say` gives the sentence."""


class Sightings:
    """Shows devices to the detectors."""

    def __init__(self, thresholds: Thresholds, tell: Tell) -> None:
        """Take what the detectors go by, and who is told of what they find."""
        self._thresholds = thresholds
        self._tell = tell

    def sight(self, state: LicenseState, seen: Observation, now: int) -> None:
        """Take a validation, a heartbeat or an activation."""
        if seen.hardware_id is None:
            return
        scene = Scene(
            state,
            seen,
            now,
            tag(seen.hardware_id),
            network_tag(seen.network) if seen.network else 0,
            seen.type != "license.validation.failed",
        )
        device = state.devices.get(scene.name)
        if device is None:
            device = self._admit(scene)
            cloned_hardware_id.keep_time(device, scene, self._thresholds)
        else:
            timing = cloned_hardware_id.keep_time(device, scene, self._thresholds)
            if scene.network and scene.network != device.network:
                self._move(scene, device, timing)
            device.last = max(device.last, now)
        device.os = os_tag(seen.os) or device.os
        if scene.succeeded:
            self._succeed(scene, device)
        elif seen.reason == "LICENSE_EXPIRED" and state.expired_since is None:
            state.expired_since = min(now, state.expires_at or now)
        self._count(scene, device)
        if seen.client_time is not None:
            self._read_clock(scene, device, seen.client_time)

    def take_seat(self, scene: Scene, device: Device) -> None:
        """Take note that a seat went to a device, which may have had one before."""
        state, thresholds = scene.state, self._thresholds
        counts, rank = credential_sharing.take_seat(state, device, scene.now, thresholds)
        if counts:
            self._prove(scene, SHARING)
        if rank != NOTHING:
            self._tell(state, scene.seen, SHARING, rank, lambda: credential_sharing.explain(state, thresholds))

    def _admit(self, scene: Scene) -> Device:
        state, seen, now = scene.state, scene.seen, scene.now
        if seen.country is not None:
            impossible_travel.know_country(state, seen.country, now)
        group, is_stranger = arrive(state, scene.name, scene.network, now) if scene.network else (0, False)
        is_known = is_departed(state, scene.name)
        device = Device(
            group=group,
            first=now,
            last=now,
            network=scene.network,
            country=seen.country,
            is_stranger=is_stranger and not is_known,
            is_accepted=is_known,
        )
        keep(state, scene.name, device)
        if device.is_stranger and seen.reason in _NO_SEAT and not scene.succeeded:
            rank = accepting.refuse(scene, device, self._thresholds)
            self._prove(scene, LEAKED_KEY)
            self._tell_leak(scene, rank)
        return device

    def _move(self, scene: Scene, device: Device, timing: cloned_hardware_id.Timing) -> None:
        state, now, thresholds = scene.state, scene.now, self._thresholds
        is_far = self._changes_country(scene, device)
        is_shared = not (
            is_exclusive(state, scene.network, scene.name) or is_exclusive(state, device.network, scene.name)
        )
        counts, rank = cloned_hardware_id.move(
            device, scene.network, now, timing=timing, is_far=is_far, is_shared=is_shared, thresholds=thresholds
        )
        forget_moves(state, device)
        if counts:
            self._prove(scene, CLONE)
        if rank != NOTHING:
            self._tell(state, scene.seen, CLONE, rank, lambda: cloned_hardware_id.explain(device, timing, thresholds))
        device.network = scene.network
        for joined in follow(state, scene.name, device, now):
            joined.is_stranger = False
            if joined.weight:
                reseller_rotation.take_back(state, joined, now, thresholds)

    def _changes_country(self, scene: Scene, device: Device) -> bool:
        """Take note of the country; return whether nobody could have got there in that time."""
        old, new = device.country, scene.seen.country
        if new is None or new == old:
            return False
        device.country = new
        if old is None:
            return False
        device.countries = 2
        return impossible_travel.is_out_of_reach((old, None), (new, None), scene.now - device.last, self._thresholds)

    def _succeed(self, scene: Scene, device: Device) -> None:
        state, seen = scene.state, scene.seen
        is_awaited = scene.name == state.awaited
        if is_awaited:
            state.awaited = 0
        if is_awaited or seen.type == "license.activated":
            state.has_activations = device.is_activated = True
            self.take_seat(scene, device)
        else:
            if state.has_activations and not device.is_accepted and not device.is_activated:
                # It had its seat before this history begins, or before it was forgotten.
                device.is_old, device.is_stranger = True, False
            if state.max_devices == 1 and state.holder != device.group and seen.type == "license.validated":
                self.take_seat(scene, device)
        if not device.is_accepted and not self._is_on_probation(scene, device):
            self._accept(scene, device)
        # A device that was given a seat is somebody's who just started a program, whatever it sends first.
        if (is_awaited or seen.type in INTERACTIVE) and seen.country is not None:
            self._travel(scene, device, seen.country)

    def _is_on_probation(self, scene: Scene, device: Device) -> bool:
        """Tell whether a device may be one of a CI, which is gone within the hour."""
        age = scene.now - device.first
        return is_server(scene.seen.os) and age <= self._thresholds.short_job_seconds and not device.is_old

    def _accept(self, scene: Scene, device: Device) -> None:
        state, thresholds = scene.state, self._thresholds
        rotation, leak = accepting.accept(scene, device, thresholds)
        if device.weight:
            self._prove(scene, ROTATION)
        if device.is_stranger:
            self._prove(scene, LEAKED_KEY)
        if rotation != NOTHING:
            self._tell(state, scene.seen, ROTATION, rotation, lambda: reseller_rotation.explain(state, thresholds))
        self._tell_leak(scene, leak)

    def _travel(self, scene: Scene, device: Device, country: str) -> None:
        state, thresholds = scene.state, self._thresholds
        rank, other = impossible_travel.observe(scene, device, country, thresholds)
        if other:
            self._prove(scene, TRAVEL)
        if rank != NOTHING:
            self._tell(state, scene.seen, TRAVEL, rank, lambda: impossible_travel.explain(state, country, other))

    def _count(self, scene: Scene, device: Device) -> None:
        rank = hammering.observe(device, scene.now, self._thresholds)
        if rank != NOTHING:
            self._prove(scene, HAMMERING)
            explain = hammering.explain
            self._tell(scene.state, scene.seen, HAMMERING, rank, lambda: explain(device))

    def _read_clock(self, scene: Scene, device: Device, client_time: float) -> None:
        state, now = scene.state, scene.now
        before = device.rollbacks
        rank = clock_rollback.observe(scene, device, client_time, self._thresholds)
        if device.rollbacks != before:
            self._prove(scene, ROLLBACK)
        if rank != NOTHING:
            explain = clock_rollback.explain
            self._tell(state, scene.seen, ROLLBACK, rank, lambda: explain(state, device, client_time, now))

    def _tell_leak(self, scene: Scene, rank: int) -> None:
        if rank != NOTHING:
            state, now, thresholds = scene.state, scene.now, self._thresholds
            self._tell(state, scene.seen, LEAKED_KEY, rank, lambda: leaked_key.explain(state, now, thresholds))

    @staticmethod
    def _prove(scene: Scene, kind: int) -> None:
        prove(scene.state, kind, scene.now, scene.seen.id, _PROOF_SECONDS)
