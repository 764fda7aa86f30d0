"""Time that passes at once."""

from __future__ import annotations

from datetime import datetime, timedelta

from api.services import Services


class Passing:
    """Lets time pass for the service: its calendar and its stop-watch alike."""

    def __init__(self, services: Services) -> None:
        self._clock = services.clock
        self._passed = timedelta(0)

    def by(self, **span: float) -> None:
        """Let so much time pass (`hours=1`)."""
        self._passed += timedelta(**span)
        real = type(self._clock)()
        self._clock.offset = self._passed
        self._clock.monotonic = lambda: real.monotonic() + self._passed.total_seconds()  # type: ignore[method-assign]

    def until_noon(self) -> None:
        """Let time pass until the next noon, in UTC: no day ends while a test looks at what happens in one."""
        now = self._clock.now()
        noon = now.replace(hour=12, minute=0, second=0, microsecond=0)
        self.by(seconds=((noon - now) % timedelta(days=1)).total_seconds())

    def stop_at(self, moment: datetime) -> None:
        """Hold the calendar at a moment."""
        self._clock.now = lambda: moment  # type: ignore[method-assign]
