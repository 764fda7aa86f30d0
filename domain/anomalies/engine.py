"""The engine: takes observations in the order of their time, and says what is wrong.

It reads no clock and does no I/O. What it knows is in the states of licences and addresses, which can be stored and
loaded one by one at any moment without changing any result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from msgspec import UNSET, DecodeError

from domain.anomalies import accepting, key_guessing, risk, suppression
from domain.anomalies.findings import KINDS, MAX_EVIDENCE, NOTHING, SEVERITIES, Finding, Kind, Severity
from domain.anomalies.observation import SIGHTINGS, LicenseTerms, Observation, tag
from domain.anomalies.scene import Scene
from domain.anomalies.sighting import Sightings
from domain.anomalies.state import (
    AddressState,
    Alert,
    LicenseState,
    dumps,
    loads_address,
    loads_license,
    terms_of,
    unpacked,
)
from domain.anomalies.thresholds import DAY, DEFAULT, Thresholds

MAX_ADDRESSES = 5_000
"""Addresses remembered; beyond that the half that was quiet for longest is forgotten."""

ADDRESS_SECONDS = 30 * DAY
"""An address that was quiet for so long begins anew, dismissed or not: by then it may be somebody else's."""

_BEGINNINGS = frozenset({"license.issued", "license.activated"})
_NONE: list[Finding] = []

State = TypeVar("State", LicenseState, AddressState)


class DamagedState(Exception):
    """What should be a stored state is none. The message tells where."""


class Engine:
    """Watches a fleet, or the part of it whose states it was given."""

    def __init__(self, thresholds: Thresholds = DEFAULT) -> None:
        """Start with nothing known."""
        self.thresholds = thresholds
        self._licenses: dict[str, LicenseState] = {}
        self._addresses: dict[str, AddressState] = {}
        self._found: list[Finding] = []
        self._sightings = Sightings(thresholds, self._tell)

    def observe(self, seen: Observation) -> list[Finding]:
        """Take an observation, not much older than the one before; return what it completes."""
        license_id = seen.license_id
        if license_id is None:
            return self._unknown_key(seen)
        now = int(seen.time)
        if self._found:
            # Said of an observation at which a detector failed: it must not be said of this one.
            self._found = []
        state = self._state(license_id, seen, now)
        if seen.type in SIGHTINGS:
            self._sightings.sight(state, seen, now)
        elif seen.type == "device.deactivated":
            if seen.hardware_id is not None:
                accepting.release(state, tag(seen.hardware_id), seen.os, now, self.thresholds)
        elif seen.type == "license.transferred":
            self._transferred(state, seen, now)
        if seen.terms is not None:
            _set(state, seen.terms)
        if not self._found:
            return _NONE
        found, self._found = self._found, []
        return found

    def _state(self, license_id: str, seen: Observation, now: int) -> LicenseState:
        """Return a licence's state, which begins with its first observation."""
        state = self._licenses.get(license_id)
        if state is None:
            state = self._licenses[license_id] = LicenseState(0)
        if not state.first:
            state.first, state.is_fresh = now, seen.type in _BEGINNINGS
        return state

    def _transferred(self, state: LicenseState, seen: Observation, now: int) -> None:
        """A seat moved by order, perhaps an administrator's: where that came from says nothing about the device."""
        if seen.from_hardware_id is not None:
            accepting.release(state, tag(seen.from_hardware_id), None, now, self.thresholds)
        if seen.hardware_id is None:
            return
        name = tag(seen.hardware_id)
        device = state.devices.get(name)
        if device is None:
            state.awaited = name
        else:
            self._sightings.take_seat(Scene(state, seen, now, name, 0, succeeded=True), device)

    def _tell(self, state: LicenseState, seen: Observation, kind: int, rank: int, say: Callable[[], str]) -> None:
        now = int(seen.time)
        alert = state.alerts.get(kind)
        if suppression.is_dismissed(alert, rank):
            return
        risk.weigh(state.factors, kind, rank, now, self.thresholds)
        if suppression.is_quiet(alert, rank, now, self.thresholds.quiet_seconds):
            return
        state.alerts[kind] = Alert(now, rank)
        proof = state.proofs.get(kind)
        self._found.append(
            Finding(
                time=seen.time,
                kind=KINDS[kind],
                severity=SEVERITIES[rank],
                license_id=seen.license_id,
                address=None,
                explanation=say(),
                evidence=unpacked(proof.ids) if proof else (seen.id,),
            )
        )

    def _unknown_key(self, seen: Observation) -> list[Finding]:
        if seen.address is None or seen.key_hash is None:
            return _NONE
        now = int(seen.time)
        address = seen.address_block or seen.address
        state = self._addresses.get(address)
        if state is None or now - state.last > ADDRESS_SECONDS:
            self._addresses.pop(address, None)
            self._make_room()
            state = self._addresses[address] = AddressState(now)
        rank = key_guessing.observe(state, seen, now, self.thresholds)
        if rank == NOTHING or suppression.is_quiet(state.alert, rank, now, self.thresholds.quiet_seconds):
            return _NONE
        state.alert = Alert(now, rank)
        return [
            Finding(
                time=seen.time,
                kind="key_guessing",
                severity=SEVERITIES[rank],
                license_id=None,
                address=seen.address,
                explanation=key_guessing.explain(state, self.thresholds),
                evidence=unpacked(state.ids)[:MAX_EVIDENCE],
            )
        ]

    def _make_room(self) -> None:
        if len(self._addresses) < MAX_ADDRESSES:
            return
        # The order is by what is stored, not by when it was loaded, so that a restart changes nothing.
        latest = sorted(self._addresses.items(), key=lambda item: (item[1].last, item[0]))
        self._addresses = dict(latest[MAX_ADDRESSES // 2 :])

    def use(self, thresholds: Thresholds) -> None:
        """Go by other thresholds from here on; what is known stays."""
        self.thresholds = thresholds
        self._sightings = Sightings(thresholds, self._tell)

    def set_terms(self, license_id: str, terms: LicenseTerms) -> None:
        """Say what a licence allows, where no event does."""
        state = self._licenses.get(license_id)
        if state is None:
            # The licence's time begins with its first observation.
            state = self._licenses[license_id] = LicenseState(0)
        _set(state, terms)

    def dismiss(self, license_id: str | None, address: str | None, kind: Kind, severity: Severity, time: float) -> None:
        """Take a person's word that a finding is nothing: its subject and kind stay quiet unless it becomes worse.

        Where it became worse before that word was given, the word is not about what is known now.
        """
        rank = SEVERITIES.index(severity)
        if license_id is not None:
            state = self._licenses.get(license_id)
            if state is not None and not suppression.is_worse(state.alerts.get(KINDS.index(kind)), rank):
                state.alerts[KINDS.index(kind)] = Alert(int(time), rank, is_dismissed=True)
                state.factors.pop(KINDS.index(kind), None)
        elif address is not None and address in self._addresses:
            found = self._addresses[address]
            if not suppression.is_worse(found.alert, rank):
                found.alert = Alert(int(time), rank, is_dismissed=True)

    def risk(self, license_id: str, now: float) -> risk.RiskScore:
        """Return a licence's risk at a time; nothing is found about one that is not known."""
        state = self._licenses.get(license_id)
        return risk.score(state.factors if state else {}, now, self.thresholds)

    def licenses(self) -> Iterable[str]:
        """Return the ids of the licences whose states are here."""
        return self._licenses.keys()

    def addresses(self) -> Iterable[str]:
        """Return the addresses whose states are here."""
        return self._addresses.keys()

    def knows_license(self, license_id: str) -> bool:
        """Tell whether a licence's state is here."""
        return license_id in self._licenses

    def save_license(self, license_id: str) -> bytes:
        """Return a licence's state, at most 4 KB. Raises KeyError where it is not here."""
        return dumps(self._licenses[license_id])

    def load_license(self, license_id: str, stored: bytes) -> None:
        """Take a licence's state as it was saved. Raises DamagedState."""
        self._licenses[license_id] = _read(loads_license, stored)

    def forget_license(self, license_id: str) -> None:
        """Drop a licence's state from memory, to be loaded again when it is seen again."""
        self._licenses.pop(license_id, None)

    def begin_anew(self, license_id: str) -> None:
        """Forget who used a licence, when and where, as far as its state is here; what it allows is kept."""
        state = self._licenses.get(license_id)
        if state is not None:
            self._licenses[license_id] = terms_of(state)

    def address_last_seen(self, address: str) -> float:
        """Return when an address was last seen, in seconds since 1970. Raises KeyError where it is not here."""
        return float(self._addresses[address].last)

    def forget_addresses(self, now: float) -> None:
        """Drop the addresses that would begin anew were they seen again."""
        kept = {name: state for name, state in self._addresses.items() if now - state.last <= ADDRESS_SECONDS}
        self._addresses = kept

    def save_address(self, address: str) -> bytes:
        """Return an address's state. Raises KeyError where it is not here."""
        return dumps(self._addresses[address])

    def load_address(self, address: str, stored: bytes) -> None:
        """Take an address's state as it was saved. Raises DamagedState."""
        self._addresses[address] = _read(loads_address, stored)


def _read(loads: Callable[[bytes], State], stored: bytes) -> State:
    try:
        return loads(stored)
    except (DecodeError, UnicodeDecodeError) as error:
        # A text in it that is no UTF-8 is told in the second way.
        raise DamagedState(str(error)) from error


def _set(state: LicenseState, terms: LicenseTerms) -> None:
    if terms.max_devices is not UNSET:
        state.max_devices = terms.max_devices
    if terms.floating is not UNSET:
        state.floating = terms.floating
    if terms.expires_at is not UNSET:
        state.expires_at = None if terms.expires_at is None else int(terms.expires_at)
        state.expired_since = None
