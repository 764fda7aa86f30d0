"""A history in the form of an export, put into both logs as the service does: sealed, hashed, under its subjects."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid5

import msgspec
from msgspec import UNSET
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from api.usage_details import UsageDetails
from bench.fleet.fleet import make_fleet
from bench.fleet.lines import Line, moment
from cli.core import Core, compose_core
from commands.usage_row import COLUMNS, Operation, UsageType, usage_line
from domain.facts import (
    Cause,
    DeviceActivated,
    DeviceDeactivated,
    Fact,
    LicenseDeactivated,
    LicenseIssued,
    LicenseReactivated,
    LicenseUpdated,
    Origin,
    Recorded,
    SeatTransferred,
)
from infra.network import Networks
from infra.postgres import Database
from infra.subjects import Subjects
from tests.support.event_log import append
from tests.support.service import settings_for

BEGIN = 1709510400.0
"""2024-03-04, a Monday, 00:00 UTC: long ago, so that nothing of a history is still to be settled."""

_USES: dict[str, tuple[UsageType, Operation]] = {
    "license.validated": ("license.validated", "validate"),
    "license.validation.failed": ("license.validation.failed", "validate"),
    "device.heartbeat": ("device.heartbeat", "heartbeat"),
}
_IDS = UUID("c1c0a3a4-52a3-4a0c-8d14-8b8c9b3d5b11")
_REAL_CLOCK = moment(1577836800.0)
"""A device's clock that is behind 2020 has lost its date, whenever its history is told."""


@dataclass(frozen=True)
class Rows:
    """What belongs into both logs, each in its order: events, and rows of use as COPY takes them, with their lines."""

    events: list[Recorded]
    uses: list[bytes]
    event_lines: list[Line]
    use_lines: list[Line]

    def put(self, database: Database) -> None:
        """Append all."""
        append(database, self.events)
        self.put_uses(database, self.uses)

    def put_uses(self, database: Database, uses: Sequence[bytes]) -> None:
        """Append some of the rows of use."""
        if not self.use_lines:
            return
        days = self.use_lines[0].time.date(), self.use_lines[-1].time.date()
        with database.connect() as connection:
            connection.execute("SELECT ensure_usage_partitions(%s, %s)", days)
            with connection.cursor().copy(f"COPY usage ({', '.join(COLUMNS)}) FROM STDIN") as copy:
                copy.write(b"".join(uses))


def fleet_lines(seed: int, licenses: int = 40, days: int = 12) -> list[Line]:
    """Return the history of a fleet from `BEGIN` on, with what the service's logs say of it, in order of time.

    Licences that the fleet does not tell of were issued long before. Only a device that asks for a seat is seen; who
    ordered other changes may have been an administrator.
    """
    fleet = make_fleet(seed, licenses, days)
    shift = timedelta(seconds=fleet.world.window.start - BEGIN)
    lines = [
        _as_logged(line, shift) for line in msgspec.json.Decoder(list[Line]).decode(b"[%s]" % b",".join(fleet.usage))
    ]
    issued = {line.license_id for line in lines if line.type == "license.issued"}
    lines += [_issued_before(terms, shift) for terms in fleet.licences if terms["license_id"] not in issued]
    return in_order(lines)


def in_order(lines: Iterable[Line]) -> list[Line]:
    """Return lines in order of time; of one time, events are first."""
    return sorted(lines, key=lambda line: (line.time, line.type in _USES))


def _as_logged(line: Line, shift: timedelta) -> Line:
    line.time -= shift
    if isinstance(line.expires_at, type(line.time)):
        line.expires_at -= shift
    if line.client_time is not None and line.client_time > _REAL_CLOCK:
        line.client_time -= shift
    if line.type not in _USES and line.type != "license.activated":
        line.ip = line.country = line.os = line.app_version = line.client_time = None
    return line


def _issued_before(terms: dict[str, object], shift: timedelta) -> Line:
    line = msgspec.convert(
        terms
        | dict.fromkeys(("hardware_id", "ip", "country", "app_version", "os"))
        | {"time": moment(BEGIN - 300 * 86_400.0), "type": "license.issued"},
        Line,
    )
    if isinstance(line.expires_at, type(line.time)):
        line.expires_at -= shift
    return line


def rows_of(database: Database, data_dir: Path, lines: Sequence[Line]) -> Rows:
    """Seal what is personal in lines, which are in order of time, and store the keys of their data subjects."""
    core = compose_core(settings_for(data_dir), database)
    try:
        return asyncio.run(_rows_of(core, lines))
    finally:
        core.application.close()


async def _rows_of(core: Core, lines: Sequence[Line]) -> Rows:
    rows = Rows([], [], [], [])
    async with await AsyncConnection.connect(
        core.database.conninfo(), autocommit=True, row_factory=dict_row
    ) as reading:
        sealing = _Sealing(core, reading)
        for line in lines:
            if line.type in _USES:
                rows.uses.append(await sealing.use(line))
                rows.use_lines.append(line)
            else:
                rows.events.append(await sealing.event(line))
                rows.event_lines.append(line)
    return rows


class _Sealing:
    """Makes rows of lines."""

    def __init__(self, core: Core, connection: AsyncConnection[dict[str, object]]) -> None:
        self._vault = core.vault
        self._connection = connection
        self._subjects = Subjects(core.vault)
        self._details = UsageDetails(core.vault)
        self._describe = Networks(core.vault.lookup_hash).describe  # type: ignore[arg-type]
        self._of_license: dict[str, UUID] = {}
        self._os: dict[tuple[UUID, str], bytes] = {}
        self._versions: dict[UUID, int] = {}

    async def use(self, line: Line) -> bytes:
        """Return a row of the usage log."""
        subject_id = await self._subject(line)
        type, operation = _USES[line.type]
        key_digest = None if line.key_hash is None else self._vault.lookup_hash("key", line.key_hash)
        return usage_line(
            occurred_at=line.time,
            type=type,
            operation=operation,
            license_id=None if line.license_id is None else UUID(line.license_id),
            key_digest=key_digest,
            subject_id=subject_id,
            hardware_id=line.hardware_id,
            reason=line.reason,
            app_version=line.app_version,
            client_time=line.client_time,
            country=line.country,
            network=None if line.ip is None else self._describe(line.ip).network_hash,
            details_sealed=None
            if line.ip is None
            else self._details.seal(subject_id, line.ip, os_info_sealed=self._sealed_os(subject_id, line.os)),
        )

    async def event(self, line: Line) -> Recorded:
        """Return an event; its id follows from its place in its licence's history."""
        subject_id = await self._subject(line)
        assert line.license_id is not None
        license_id = UUID(line.license_id)
        version = self._versions[license_id] = self._versions.get(license_id, 0) + 1
        command_id = uuid5(_IDS, f"{license_id}/{version}/command")
        cause = Cause(
            actor="job:test",
            command="Test",
            command_id=command_id,
            request_id=str(command_id),
            origin=Origin(
                country=line.country, network=None if line.ip is None else self._describe(line.ip).network_hash
            ),
            sealed_address=None if line.ip is None else self._details.seal_address(subject_id, line.ip),
        )
        return Recorded(
            originator_id=license_id,
            originator_version=version,
            event_id=event_id(license_id, version),
            occurred_at=line.time,
            subject_id=subject_id,
            cause=cause,
            fact=self._fact(line, subject_id),
        )

    def _fact(self, line: Line, subject_id: UUID) -> Fact:  # noqa: PLR0911 - one a fact
        hardware_id = line.hardware_id or ""
        match line.type:
            case "license.issued":
                return LicenseIssued(
                    key_digest=hashlib.sha256((line.license_id or "").encode()).digest(),
                    key_sealed=b"",
                    max_devices=line.max_devices or 1,
                    floating=bool(line.floating),
                    expires_at=None if line.expires_at is UNSET else line.expires_at,
                )
            case "license.updated":
                max_devices = UNSET if line.max_devices is None else line.max_devices
                return LicenseUpdated(max_devices=max_devices, expires_at=line.expires_at)
            case "license.deactivated":
                return LicenseDeactivated()
            case "license.reactivated":
                return LicenseReactivated()
            case "license.activated":
                os_info = self._sealed_os(subject_id, line.os)
                sealed = {} if os_info is None else {"os_info": os_info}
                version, time = line.app_version, line.client_time
                return DeviceActivated(hardware_id=hardware_id, app_version=version, client_time=time, sealed=sealed)
            case "device.deactivated":
                return DeviceDeactivated(hardware_id=hardware_id, activation_id=_IDS)
            case "license.transferred":
                assert line.from_hardware_id is not None
                return SeatTransferred(
                    from_hardware_id=line.from_hardware_id, to_hardware_id=hardware_id, ended_activation_id=_IDS
                )
        raise AssertionError(line.type)

    async def _subject(self, line: Line) -> UUID:
        if line.license_id is None:
            return await self._subjects.of_day(self._connection, line.time.date())
        if line.license_id not in self._of_license:
            lookup = self._subjects.lookup_hash(f"customer of {line.license_id}", None)
            self._of_license[line.license_id] = (await self._subjects.ensure(self._connection, [lookup]))[lookup]
        return self._of_license[line.license_id]

    def _sealed_os(self, subject_id: UUID, os: str | None) -> bytes | None:
        if os is None:
            return None
        if (subject_id, os) not in self._os:
            name, _, version = os.rpartition(" ")
            info = {"name": name, "version": version} if name else {"name": os}
            self._os[subject_id, os] = self._vault.seal(subject_id, info)
        return self._os[subject_id, os]


def event_id(license_id: UUID, version: int) -> UUID:
    """Return the id that an event is given here."""
    return uuid5(_IDS, f"{license_id}/{version}")
