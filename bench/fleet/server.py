"""The server's side: it holds the seats of one licence, decides each request, and logs what a real one would."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

from bench.fleet.devices import Device
from bench.fleet.intents import Intent
from bench.fleet.licence import Licence
from bench.fleet.lines import Line, moment, moment_or_none
from bench.fleet.seeds import DAY, HOUR, MINUTE, Dice

Log = Callable[[float, Line], None]
ADMINS: frozenset[str] = frozenset({"release", "issue", "terms", "suspend", "resume"})


class Desk:
    """Serves the requests of one licence in order of time, with what they lead to."""

    def __init__(self, dice: Dice, licence: Licence, log: Log, window_start: float) -> None:
        self._dice = dice
        self._licence = licence
        self._log = log
        self._start = window_start
        self._number = count()
        self._queue: list[tuple[float, int, Intent]] = []
        self._seats: dict[Device, float] = dict.fromkeys(licence.known_devices, window_start)
        self._refused: set[Device] = set()
        self._suspended = False
        self._max_devices = licence.max_devices
        self._expires_at = licence.expires_at
        self._acts: dict[str, Callable[[Intent], None]] = {
            "start": self._begin,
            "validate": self._validate,
            "activate": self._activate,
            "heartbeat": self._heartbeat,
            "deactivate": self._deactivate,
            "transfer": self._transfer,
            "release": self._release,
            "issue": self._issue,
            "terms": self._terms,
            "suspend": self._suspend,
            "resume": self._resume,
        }

    def serve(self, end: float) -> None:
        """Serve everything before `end`; afterwards the licence has its terms as they are then."""
        self._queue = [(intent.time, next(self._number), intent) for intent in self._licence.intents]
        heapify(self._queue)
        while self._queue:
            time, _, intent = heappop(self._queue)
            if self._start <= time < end:
                self._acts[intent.action](intent)
        self._licence.max_devices, self._licence.expires_at = self._max_devices, self._expires_at

    def _later(self, intent: Intent) -> None:
        heappush(self._queue, (intent.time, next(self._number), intent))

    def _refusal(self, intent: Intent) -> str | None:
        if self._suspended:
            return "LICENSE_INACTIVE"
        if self._expires_at is not None and intent.time > self._expires_at:
            return "LICENSE_EXPIRED"
        if intent.device in self._seats:
            return None
        return "DEVICE_NOT_ACTIVATED" if len(self._seats) < self._max_devices else "DEVICE_LIMIT_EXCEEDED"

    def _write(self, intent: Intent, type: str, reason: str | None = None) -> None:
        device, network, licence = intent.device, intent.network, self._licence
        time = intent.time
        self._log(
            time,
            Line(
                time=moment(time),
                type=type,
                license_id=licence.license_id,
                hardware_id=device.hardware_id if device else None,
                ip=network.address(time) if network else None,
                country=network.country if network else None,
                app_version=device.version(time) if device and network else None,
                os=device.os if device and network else None,
                reason=reason,
                client_time=moment_or_none(device.clock.read(time)) if device and network else None,
                from_hardware_id=intent.partner.hardware_id
                if intent.partner and type == "license.transferred"
                else None,
                to_hardware_id=device.hardware_id if device and type == "license.transferred" else None,
            ),
        )
        if device in self._seats and network:
            self._seats[device] = time
        if intent.abuse and licence.abuse:
            licence.abuse.note(time)

    def _validate(self, intent: Intent) -> None:
        reason = self._refusal(intent)
        self._write(intent, "license.validation.failed" if reason else "license.validated", reason)

    def _begin(self, intent: Intent) -> None:
        if intent.device in self._seats:
            self._validate(intent)
        elif intent.device not in self._refused or intent.tries:
            self._activate(intent)
            self._react(intent)

    def _activate(self, intent: Intent) -> None:
        reason = self._refusal(intent)
        assert intent.device is not None
        if reason == "DEVICE_NOT_ACTIVATED":
            self._seats[intent.device] = intent.time
            self._refused.discard(intent.device)
            self._write(intent, "license.activated")
        elif reason is None:
            self._write(intent, "license.validated")
        else:
            self._write(intent, "license.validation.failed", reason)

    def _react(self, intent: Intent) -> None:
        """After a refusal: somebody of a floating team waits; elsewhere they try again and call their admin."""
        device, dice = intent.device, self._dice
        if device is None or intent.abuse or self._refusal(intent) != "DEVICE_LIMIT_EXCEEDED":
            return
        if self._licence.floating:
            if intent.tries < dice.randrange(5):
                self._later(intent._replace(time=intent.time + dice.uniform(4, 25) * MINUTE, tries=intent.tries + 1))
        elif intent.tries < 1 + dice.randrange(4):
            self._refused.add(device)
            self._later(intent._replace(time=intent.time + dice.spread(4 * MINUTE), tries=intent.tries + 1))
        else:
            self._ask_admin(intent)

    def _ask_admin(self, intent: Intent) -> None:
        """The admin takes back the seat of the machine that was replaced, else of one not seen for days."""
        assert intent.device is not None
        silent = [device for device, seen in self._seats.items() if intent.time - seen > 3 * DAY]
        given_up = (
            intent.partner if intent.partner in self._seats else min(silent, key=self._seats.__getitem__, default=None)
        )
        wait = self._dice.uniform(0.3, 20) * HOUR
        if given_up is None or intent.tries > 12:  # noqa: PLR2004 - they give up
            self._refused.discard(intent.device)
            return
        self._later(Intent(intent.time + wait, "release", given_up))
        self._later(
            intent._replace(time=intent.time + wait + self._dice.uniform(1, 40) * MINUTE, tries=intent.tries + 1)
        )

    def _heartbeat(self, intent: Intent) -> None:
        if intent.device not in self._seats:
            return
        reason = self._refusal(intent)
        self._write(intent, "license.validation.failed" if reason else "device.heartbeat", reason)

    def _deactivate(self, intent: Intent) -> None:
        if intent.device in self._seats:
            self._write(intent, "device.deactivated")
            del self._seats[intent.device]

    def _release(self, intent: Intent) -> None:
        self._deactivate(intent)

    def _transfer(self, intent: Intent) -> None:
        if (
            intent.partner not in self._seats
            or intent.device in self._seats
            or self._refusal(intent) == "LICENSE_EXPIRED"
        ):
            return
        assert intent.device is not None
        assert intent.partner is not None
        del self._seats[intent.partner]
        self._seats[intent.device] = intent.time
        self._write(intent, "license.transferred")

    def _issue(self, intent: Intent) -> None:
        self._administrative(intent.time, "license.issued", max_devices=True, expires_at=True)

    def _terms(self, intent: Intent) -> None:
        terms = intent.terms
        assert terms is not None
        self._max_devices += terms.more_devices
        longer = terms.expires_at is not None
        self._expires_at = terms.expires_at if longer else self._expires_at
        self._administrative(intent.time, "license.updated", max_devices=terms.more_devices > 0, expires_at=longer)

    def _administrative(self, time: float, type: str, *, max_devices: bool, expires_at: bool) -> None:
        line = Line(
            time=moment(time), type=type, license_id=self._licence.license_id,
            hardware_id=None, ip=None, country=None, app_version=None, os=None,
        )  # fmt: skip
        if max_devices:
            line.max_devices = self._max_devices
        if expires_at:
            line.expires_at = moment_or_none(self._expires_at)
        if type == "license.issued":
            line.floating = self._licence.floating
        self._log(time, line)

    def _suspend(self, intent: Intent) -> None:
        self._suspended = True
        self._administrative(intent.time, "license.deactivated", max_devices=False, expires_at=False)

    def _resume(self, intent: Intent) -> None:
        self._suspended = False
        self._administrative(intent.time, "license.reactivated", max_devices=False, expires_at=False)
