"""Licences by the million, written straight into the log and the views.

The shortcut: events are encoded and personal data is sealed as always, and the views are written by the code that
rebuilds them, but no order is decided and nothing goes over HTTP. Licences are numbered from 0, their keys too; ids
look random, as real ones do. Each licence has a customer of its own and one active device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from hashlib import blake2b
from uuid import UUID

from psycopg import Connection
from psycopg.rows import DictRow

from cli.core import Core, compose_core
from commands.event_mapper import EventMapper
from domain.api_key import DEFAULT_ENDPOINTS
from domain.facts import ApiKeyCreated, Cause, DeviceActivated, DeviceDeactivated, Fact, LicenseIssued, Recorded
from domain.identifiers import license_key_digest
from infra.api_secrets import digest
from infra.postgres import SCHEMA, Database
from infra.settings import Settings
from infra.vault import Vault
from projections.inline_views import InlineViews

CHUNK = 5_000
"""Licences in one transaction."""
LIMIT = 1_000_000_000
"""Requests that the API key may make in a minute and in an hour: the limiter counts, and never refuses."""
CUSTOMER = "customer-{:012d}"

_EVENTS = (
    "COPY licensing_events (originator_id, originator_version, topic, state, notification_id) FROM STDIN"
    " WITH (FORMAT binary)"
)
_SUBJECTS = "COPY data_subjects (subject_id, lookup_hash, wrapped_key) FROM STDIN WITH (FORMAT binary)"


_KNOWN = """
    SELECT l.subject_id, max(e.originator_version) AS version
    FROM licenses l JOIN licensing_events e ON e.originator_id = l.license_id WHERE l.license_id = %s GROUP BY 1
"""


def license_key(number: int) -> str:
    """Return the key of a licence, of the length that keys have."""
    return f"LIC-{number:012d}"


def hardware_id(number: int) -> str:
    """Return the id of a licence's device."""
    return f"pc-{number:012d}"


def license_id(number: int) -> UUID:
    """Return the id of a licence."""
    return _id(b"license", number)


def activation_id(number: int) -> UUID:
    """Return the id of the event that gave a licence's device its seat."""
    return _id(b"seat", number)


def edition_of(number: int) -> str:
    """Return the edition of a licence: one in a thousand is another one, for lists with a filter."""
    return "team" if number % 1000 == 0 else "pro"


def _id(kind: bytes, number: int) -> UUID:
    return UUID(bytes=blake2b(number.to_bytes(8), digest_size=16, person=kind).digest(), version=4)


def fill(  # noqa: PLR0913 - how much of what, and where
    settings: Settings,
    database: Database,
    count: int,
    api_key: str,
    *,
    seats: int,
    told: Callable[[int], None] = lambda _: None,
) -> None:
    """Make an API key and so many licences in an empty database; `told` learns how many are there."""
    core = compose_core(settings, database)
    with closing(core.application), database.connect_owner() as connection:
        connection.execute(f"SET search_path = {SCHEMA}")
        filling = _Filling(core, connection, datetime.now(UTC))
        filling.write([filling.event(_id(b"key", 0), 1, _api_key(api_key), event_id=_id(b"made", 0))])
        for first in range(0, count, CHUNK):
            filling.chunk(range(first, min(first + CHUNK, count)), seats)
            told(min(first + CHUNK, count))
        filling.end()


def lengthen(settings: Settings, database: Database, numbers: range, events: int) -> None:
    """Bring licences that `fill` made to so many events each: devices come and go. The views follow."""
    core = compose_core(settings, database)
    with closing(core.application), database.connect_owner() as connection:
        connection.execute(f"SET search_path = {SCHEMA}")
        filling = _Filling(core, connection, datetime.now(UTC))
        filling.position = _last_position(connection)
        for number in numbers:
            (known,) = connection.execute(_KNOWN, (license_id(number),)).fetchall()
            life = filling.history(number, known["subject_id"], range(known["version"] + 1, events + 1))
            for first in range(0, len(life), CHUNK):
                with connection.transaction():
                    filling.write(life[first : first + CHUNK])
        filling.end()


def _last_position(connection: Connection[DictRow]) -> int:
    row = connection.execute("SELECT coalesce(max(notification_id), 0) AS last FROM licensing_events").fetchone()
    assert row is not None
    return int(row["last"])


def _api_key(api_key: str) -> ApiKeyCreated:
    return ApiKeyCreated(
        key_digest=digest(api_key),
        client_name="benchmark",
        allowed_endpoints=DEFAULT_ENDPOINTS,
        requests_per_minute=LIMIT,
        requests_per_hour=LIMIT,
    )


class _Filling:
    def __init__(self, core: Core, connection: Connection[DictRow], now: datetime) -> None:
        self._vault: Vault = core.vault
        self._views = InlineViews(core.emails)
        self._connection = connection
        self._now = now
        self._mapper = EventMapper()
        self.position = 0

    def chunk(self, numbers: range, seats: int) -> None:
        """Write some licences and their customers in one transaction."""
        with self._connection.transaction():
            subjects = {number: self._vault.new_subject() for number in numbers}
            with self._connection.cursor().copy(_SUBJECTS) as copy:
                copy.set_types(["uuid", "bytea", "bytea"])
                for number, (subject_id, wrapped) in subjects.items():
                    copy.write_row((subject_id, self._vault.lookup_hash("customer", CUSTOMER.format(number)), wrapped))
            self.write([one for number in numbers for one in self._life(number, subjects[number][0], seats)])

    def end(self) -> None:
        """Leave the database as one that has been at rest."""
        self._connection.execute(
            "SELECT setval(pg_get_serial_sequence('licensing_events', 'notification_id'), %s)", (self.position,)
        )
        # The next automatic ones would come while something is measured.
        self._connection.execute("VACUUM (ANALYZE)")
        self._connection.execute("CHECKPOINT")

    def history(self, number: int, subject_id: UUID, versions: range) -> list[Recorded]:
        """Return a licence's events of these versions: ten devices in turn come and go."""
        life: list[Recorded] = []
        device = ""
        for version in versions:
            event_id = _id(b"past", number * 1_000_000 + version)
            fact: Fact
            if (version - versions.start) % 2 == 0:
                device = f"old-{version // 2 % 10}"
                fact = DeviceActivated(hardware_id=device, app_version="4.2.0")
            else:
                fact = DeviceDeactivated(hardware_id=device, activation_id=life[-1].event_id)
            life.append(self.event(license_id(number), version, fact, event_id=event_id, subject_id=subject_id))
        return life

    def _life(self, number: int, subject_id: UUID, seats: int) -> Iterator[Recorded]:
        key = license_key(number)
        issued = LicenseIssued(
            key_digest=license_key_digest(key),
            key_sealed=self._vault.seal_secret(key),
            max_devices=seats,
            features=("draw", "export"),
            product="Planwerk",
            edition=edition_of(number),
            sealed={"customer_id": self._vault.seal(subject_id, CUSTOMER.format(number))},
        )
        yield self.event(license_id(number), 1, issued, event_id=_id(b"issue", number), subject_id=subject_id)
        activated = DeviceActivated(hardware_id=hardware_id(number), app_version="4.2.0")
        yield self.event(license_id(number), 2, activated, event_id=activation_id(number), subject_id=subject_id)

    def event(self, of: UUID, version: int, fact: Fact, *, event_id: UUID, subject_id: UUID | None = None) -> Recorded:
        """Return a fact as the log keeps it."""
        cause = Cause(actor="job:bench", command="Fill", command_id=event_id, request_id=str(event_id))
        return Recorded(
            originator_id=of,
            originator_version=version,
            event_id=event_id,
            occurred_at=self._now,
            subject_id=subject_id,
            cause=cause,
            fact=fact,
        )

    def write(self, events: list[Recorded]) -> None:
        """Append events, and write the views of them."""
        positioned = list(enumerate(events, self.position + 1))
        self.position += len(events)
        with self._connection.cursor().copy(_EVENTS) as copy:
            copy.set_types(["uuid", "int8", "text", "bytea", "int8"])
            for position, event in positioned:
                stored = self._mapper.to_stored_event(event)
                copy.write_row((stored.originator_id, stored.originator_version, stored.topic, stored.state, position))
        self._views.apply(self._connection, positioned)
