"""Keys that nobody has: mistyped, out of date, rolled out wrong; and guessed. Their subjects are addresses."""

from __future__ import annotations

from collections.abc import Iterator

from bench.fleet.devices import Device
from bench.fleet.licence import Abuse, Licence
from bench.fleet.lines import Line, moment
from bench.fleet.networks import Network
from bench.fleet.seeds import DAY, HOUR, MINUTE, Dice
from bench.fleet.server import Log
from bench.fleet.world import World

TRIES_IN_TEN_MINUTES = 20
"""After so many misses an address is refused for a while, and what is refused is not logged."""


class Misses:
    """Writes attempts with keys that nobody has."""

    def __init__(self, world: World, log: Log) -> None:
        self._world = world
        self._log = log

    def miss(  # noqa: PLR0913 - one argument a field
        self, time: float, ip: str, country: str, *, key_hash: str, hardware_id: str, os: str = "Windows 11"
    ) -> None:
        """Write one attempt, where it is within the window."""
        if self._world.window.start <= time < self._world.window.end:
            line = Line(
                time=moment(time), type="license.validation.failed", license_id=None, hardware_id=hardware_id,
                ip=ip, country=country, app_version="5.1.0", os=os, reason="LICENSE_NOT_FOUND", key_hash=key_hash,
            )  # fmt: skip
            self._log(time, line)

    def honest(self, dice: Dice, licences: list[Licence]) -> None:
        """Let people mistype, mostly at first; let old keys be tried for weeks; let a rollout go wrong."""
        for licence in licences:
            self._mistyped(dice.of(licence.license_id), licence)
        for number in range(max(1, len(licences) // 60)):
            self._stale_key(dice.of("stale", number), dice.choice(licences))
        for number in range(max(1, len(licences) // 150)):
            self._wrong_rollout(dice.of("rollout", number), dice.choice(licences))

    def _mistyped(self, dice: Dice, licence: Licence) -> None:
        if licence.sort in {"build", "builders"}:
            return
        share = 0.3 if licence.sort == "classroom" else 0.15
        seen: set[Device] = set()
        for intent in licence.intents:
            if intent.action != "start" or not intent.device or not intent.network or intent.abuse:
                continue
            new = intent.device not in seen and intent.device not in licence.known_devices
            seen.add(intent.device)
            if dice.chance(share if new else 0.0002):
                self._mistype(dice, intent.time, intent.device, intent.network)

    def _mistype(self, dice: Dice, time: float, device: Device, network: Network) -> None:
        """Type a key wrong once or a few times, and press the button once or twice each."""
        for _ in range(1 + dice.count(0.7)):
            typed = time - dice.uniform(10, 300)
            key_hash, ip = dice.hex(64), network.address(typed)
            for _ in range(1 + dice.count(0.4)):
                self.miss(typed, ip, network.country, key_hash=key_hash, hardware_id=device.hardware_id, os=device.os)
                typed += dice.uniform(1, 9)

    def _stale_key(self, dice: Dice, licence: Licence) -> None:
        """A forgotten machine asks with a key that was deleted, each hour, until somebody looks."""
        network = licence.office or self._world.internet.home(licence.city)
        key_hash, hardware_id = dice.hex(64), dice.hex(32)
        time = self._world.window.start + dice.random() * self._world.window.days * DAY
        end = time + dice.uniform(1, 20) * DAY
        while time < end:
            self.miss(time, network.address(time), network.country, key_hash=key_hash, hardware_id=hardware_id)
            time += dice.uniform(0.8, 1.2) * HOUR

    def _wrong_rollout(self, dice: Dice, licence: Licence) -> None:
        """An admin rolls out one wrong key to a whole office."""
        network = licence.office or self._world.internet.office(licence.city)
        key_hash = dice.hex(64)
        start = self._world.window.start + dice.random() * self._world.window.days * DAY
        for _ in range(dice.randint(15, 60)):
            hardware_id, time = dice.hex(32), start + dice.spread(2 * HOUR)
            for _ in range(dice.randint(1, 6)):
                self.miss(time, network.address(time), network.country, key_hash=key_hash, hardware_id=hardware_id)
                time += dice.uniform(1, 30) * MINUTE

    def guess(self, dice: Dice) -> Abuse:
        """Try keys from one address: fast, throttled, slow over days, or slow in the hours of work."""
        variant = dice.choice(("fast", "throttled", "slow", "slow", "office hours"))
        window = self._world.window
        network = self._origin(dice, variant)
        start = window.start + dice.uniform(0.05, 0.8) * window.days * DAY
        guess = Abuse("key_guessing", variant, ip=network.address(start))
        hardware_id, many_machines = dice.hex(32), dice.chance(0.4)
        for time in _times(dice, variant, start):
            if time < window.end:
                machine = dice.hex(32) if many_machines else hardware_id
                self.miss(
                    time, guess.ip or "", network.country, key_hash=dice.hex(64), hardware_id=machine, os="Debian 12"
                )
                guess.note(time)
        return guess

    def _origin(self, dice: Dice, variant: str) -> Network:
        """Guess from a rented server, a home, or one's place of work, where honest colleagues use the same address."""
        world = self._world
        if variant == "office hours":
            return dice.choice(world.shared_offices)[1]
        return world.internet.cloud_account(fixed=True) if dice.chance(0.5) else world.internet.home(world.city(dice))


def _times(dice: Dice, variant: str, time: float) -> Iterator[float]:
    """Yield when a guesser tries, from `time` on."""
    least, most, pause = {
        "fast": (150, 900, dice.uniform(0.3, 5)),
        "throttled": (150, 600, 8.0),
        "slow": (100, 500, dice.uniform(3, 25) * MINUTE),
        "office hours": (80, 300, 5 * MINUTE),
    }[variant]
    recent: list[float] = []
    for _ in range(dice.randint(least, most)):
        time += dice.expovariate(1 / pause)
        if variant == "office hours" and not 8 <= (time / HOUR) % 24 < 18:  # noqa: PLR2004 - hours of the day
            time += 14 * HOUR
        if variant == "throttled":
            recent = [one for one in recent if one > time - 10 * MINUTE]
            if len(recent) >= TRIES_IN_TEN_MINUTES:
                time = recent[0] + 10 * MINUTE + dice.random() * 20
            recent.append(time)
        yield time
