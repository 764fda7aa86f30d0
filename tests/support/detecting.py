"""Detection over a database of a test: put together as the worker does, and what it has found and remembers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from cli.core import open_keyring
from cli.workers import _detection
from infra.postgres import Database
from infra.vault import Vault
from projections.behaviour import CONSUMER
from tests.support.service import settings_for
from workers.detection import Detection, Parts

MOST_STEPS = 100_000


class Anomaly(NamedTuple):
    """What was found; the address as it is under its seal."""

    id: UUID
    kind: str
    severity: str
    license_id: UUID | None
    address_hash: bytes | None
    subject_id: UUID | None
    address: str | None
    explanation: str
    evidence: tuple[str, ...]
    found_at: Any
    status: str


def with_one_key(data_dir: Path) -> Path:
    """Give a data folder the same service key in each run: of hashes under it, detection keeps a few bits only."""
    keys = data_dir / "keys"
    keys.mkdir(mode=0o700)
    (keys / "service.key").write_text("A" * 43)
    (keys / "service.key").chmod(0o600)
    return data_dir


@contextmanager
def parts_of(database: Database, data_dir: Path, **more: Any) -> Iterator[Parts]:
    """Give what detection works with; `more` replaces some of it."""
    settings = settings_for(data_dir)
    with ExitStack() as held:
        # The keys' fingerprint is the installation's name.
        yield _detection(settings, database, open_keyring(settings).fingerprint, held)._replace(**more)


def vault_of(data_dir: Path) -> Vault:
    """Return a vault that opens what the service has sealed."""
    keyring = open_keyring(settings_for(data_dir))
    return Vault(keyring.derive("vault"), keyring.derive("lookup"))


def detect(database: Database, parts: Parts, *, restart: bool = False) -> None:
    """Look at all that both logs hold; with a `restart`, a new process takes each step."""
    with database.connect_worker(CONSUMER) as connection:
        detection = Detection(connection, parts)
        for _ in range(MOST_STEPS):
            if detection.step().caught_up:
                return
            if restart:
                detection = Detection(connection, parts)
    raise AssertionError("it does not come to an end")


def begin_anew(database: Database) -> None:
    """Forget all that was remembered, and go back to the beginnings of the logs."""
    with database.connect() as connection:
        connection.execute("UPDATE consumers SET event_position = 0, usage_position = 0 WHERE consumer = 'anomaly'")
        for table in ("license_behaviour", "address_behaviour", "detection_clock"):
            connection.execute(f"DELETE FROM {table}")


def found(database: Database, vault: Vault) -> list[Anomaly]:
    """Return the anomalies in order of their time, as the list shows them."""
    with database.connect() as connection:
        rows = connection.execute("SELECT * FROM anomalies ORDER BY found_at, anomaly_id").fetchall()
    return [
        Anomaly(
            id=row["anomaly_id"],
            kind=row["kind"],
            severity=row["severity"],
            license_id=row["license_id"],
            address_hash=row["address_hash"],
            subject_id=row["subject_id"],
            address=None if row["address_sealed"] is None else _opened(database, vault, row),
            explanation=row["explanation"],
            evidence=tuple(row["evidence"]),
            found_at=row["found_at"],
            status=row["status"],
        )
        for row in rows
    ]


def remembered(database: Database) -> dict[str, Any]:
    """Return the states of licences and addresses, and the clock."""
    with database.connect() as connection:
        return {
            table: [tuple(row.values()) for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()]
            for table in ("license_behaviour", "address_behaviour", "detection_clock")
        }


def recorded_ids(database: Database) -> list[UUID]:
    """Return the anomalies that the event log tells of."""
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT originator_id FROM licensing_events WHERE topic = 'anomaly.detected'"
        ).fetchall()
    return [row["originator_id"] for row in rows]


def _opened(database: Database, vault: Vault, row: dict[str, Any]) -> str:
    with database.connect() as connection:
        subject = connection.execute(
            "SELECT wrapped_key FROM data_subjects WHERE subject_id = %s", (row["subject_id"],)
        ).fetchone()
    assert subject is not None
    vault.remember(row["subject_id"], bytes(subject["wrapped_key"]))
    return str(vault.open(row["subject_id"], row["address_sealed"]))
