"""A made-up history of one licence: what happened, told in the test's words, and what the engine says to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from domain.anomalies.engine import Engine
from domain.anomalies.findings import Finding
from domain.anomalies.observation import LicenseTerms, Observation

START = datetime(2026, 3, 2, tzinfo=UTC).timestamp()  # a Monday
MINUTE = 60.0
HOUR = 3600.0
DAY = 86_400.0
LICENSE = "6f1c8d0e-5b1d-4e0c-8a35-0d3a5f7c2b90"


@dataclass
class History:
    """Observations of one licence, in any order; `findings` plays them in the order of their time."""

    max_devices: int = 2
    floating: bool = False
    expires_at: float | None = None
    country: str = "DE"
    observations: list[Observation] = field(default_factory=list)

    def add(  # noqa: PLR0913 - one argument a field
        self,
        time: float,
        type: str,
        device: str | None,
        network: str | None,
        *,
        country: str | None = None,
        os: str | None = "Windows 11",
        reason: str | None = None,
        client_time: float | None = None,
    ) -> None:
        self.observations.append(
            Observation(
                START + time,
                type,
                f"row {len(self.observations) + 1}",
                LICENSE,
                device,
                network,
                country=(country or self.country) if network else None,
                os=os,
                reason=reason,
                client_time=None if client_time is None else START + client_time,
            )
        )

    def validates(self, time: float, device: str, network: str, **more: object) -> None:
        self.add(time, "license.validated", device, network, **more)  # type: ignore[arg-type]

    def activates(self, time: float, device: str, network: str, **more: object) -> None:
        self.add(time, "license.activated", device, network, **more)  # type: ignore[arg-type]

    def beats(self, time: float, device: str, network: str, **more: object) -> None:
        self.add(time, "device.heartbeat", device, network, **more)  # type: ignore[arg-type]

    def is_refused(self, time: float, device: str, network: str, reason: str, **more: object) -> None:
        self.add(time, "license.validation.failed", device, network, reason=reason, **more)  # type: ignore[arg-type]

    def gives_back(self, time: float, device: str, **more: object) -> None:
        self.add(time, "device.deactivated", device, None, **more)  # type: ignore[arg-type]

    def office_days(self, device: str, network: str, days: int = 10, *, first: int = 0, **more: object) -> None:
        """Let a device be used from nine to five, each day."""
        for day in range(first, first + days):
            self.validates(day * DAY + 9 * HOUR, device, network, **more)
            for hour in range(10, 17):
                self.beats(day * DAY + hour * HOUR, device, network, **more)

    def engine(self) -> Engine:
        engine = Engine()
        engine.set_terms(
            LICENSE,
            LicenseTerms(
                max_devices=self.max_devices,
                floating=self.floating,
                expires_at=None if self.expires_at is None else START + self.expires_at,
            ),
        )
        return engine

    def in_order(self) -> list[Observation]:
        return sorted(self.observations, key=lambda seen: seen.time)

    def findings(self) -> list[Finding]:
        engine = self.engine()
        return [finding for seen in self.in_order() for finding in engine.observe(seen)]

    def kinds(self) -> set[str]:
        return {finding.kind for finding in self.findings()}
