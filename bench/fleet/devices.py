"""Devices: their identity, their own clock, and the version of the program on them."""

from __future__ import annotations

from bench.fleet.seeds import DAY, HOUR, MINUTE, Dice

DEAD_BATTERY_DATES = (0.0, 946684800.0, 1262304000.0, 1420070400.0)
"""What firmware starts from: 1970, 2000, 2010, 2015."""


class Clock:
    """A device's own clock: right, off by `offset` seconds, or at `epoch` since it was last switched on."""

    __slots__ = ("drift", "epoch", "offset", "shown", "turned_back")

    def __init__(self, *, shown: bool, offset: float = 0, drift: float = 0, epoch: float | None = None) -> None:
        self.shown = shown
        self.offset = offset
        self.drift = drift
        self.epoch = epoch
        self.turned_back: list[tuple[float, float]] = []

    def turn_back(self, time: float, seconds: float) -> None:
        """From `time` on, be so many seconds behind. Calls are in order of time."""
        self.turned_back.append((time, seconds))

    def read(self, time: float) -> float | None:
        """Return what the clock shows at a time; None where the program does not tell."""
        if not self.shown:
            return None
        if self.epoch is not None:
            return self.epoch + time % DAY
        behind = next((seconds for since, seconds in reversed(self.turned_back) if time >= since), 0.0)
        return time + self.offset + self.drift * (time % (30 * DAY)) - behind


def any_clock(dice: Dice, share_shown: float) -> Clock:
    """Return a clock as they are: most right, some off by minutes, a few by a time zone, a few with a dead battery."""
    shown = dice.chance(share_shown)
    luck = dice.random()
    if luck < 0.015:  # noqa: PLR2004 - the shares are named in the docstring's order
        return Clock(shown=shown, epoch=dice.choice(DEAD_BATTERY_DATES))
    if luck < 0.03:  # noqa: PLR2004
        return Clock(shown=shown, offset=dice.choice((-8, -6, -5, -1, 1, 2, 5.5, 8)) * HOUR)
    if luck < 0.13:  # noqa: PLR2004
        return Clock(shown=shown, offset=dice.gauss(0, 6) * MINUTE)
    if luck < 0.17:  # noqa: PLR2004
        return Clock(shown=shown, drift=dice.uniform(-2e-4, 2e-4))
    return Clock(shown=shown, offset=dice.gauss(0, 2))


class Releases:
    """Versions of the vendor's program and when each came out."""

    def __init__(self, dice: Dice, start: float, days: int) -> None:
        self.published: list[tuple[float, str]] = [(0.0, "5.0.3"), (start - 20 * DAY, "5.1.0")]
        moment, minor = start + dice.uniform(3, 9) * DAY, 2
        while moment < start + days * DAY:
            self.published.append((moment, f"5.{minor}.0"))
            if dice.chance(0.4):
                self.published.append((moment + 2 * DAY, f"5.{minor}.1"))
            moment, minor = moment + dice.uniform(12, 22) * DAY, minor + 1


class Device:
    """A machine with the program on it. `lag` is how long it puts off updates, in seconds."""

    __slots__ = ("clock", "hardware_id", "lag", "os", "releases", "where")

    def __init__(  # noqa: PLR0913 - one argument an attribute
        self, hardware_id: str, os: str, where: str, *, clock: Clock, releases: Releases, lag: float
    ) -> None:
        self.hardware_id = hardware_id
        self.os = os
        self.where = where
        self.clock = clock
        self.releases = releases
        self.lag = lag

    def version(self, time: float) -> str:
        """Return the version it runs at a time."""
        return next((name for since, name in reversed(self.releases.published) if time - self.lag >= since), "5.0.3")


class Makers:
    """Makes devices as this fleet's vendor sees them."""

    def __init__(self, releases: Releases, share_with_clock: float) -> None:
        self._releases = releases
        self._share_with_clock = share_with_clock

    def device(self, dice: Dice, where: str) -> Device:
        """Make a device. `where` is laptop, tablet, home (a desktop there), office (a desktop there) or server."""
        systems = {
            "laptop": ("Windows 11", "Windows 10", "macOS 15", "macOS 14", "Ubuntu 24.04"),
            "tablet": ("iPadOS 18", "Android 15"),
            "server": ("Debian 12", "Ubuntu 22.04", "Ubuntu 24.04"),
        }.get(where, ("Windows 11", "Windows 10", "macOS 15"))
        lag = dice.spread(30 * DAY if dice.chance(0.2) else 3 * DAY)
        clock = (
            Clock(shown=dice.chance(self._share_with_clock))
            if where == "server"
            else any_clock(dice, self._share_with_clock)
        )
        return Device(dice.hex(32), dice.choice(systems), where, clock=clock, releases=self._releases, lag=lag)
