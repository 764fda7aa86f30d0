"""A log as a program of its time has written it, with its keys, and what that program answered about it.

`python -m tests.support.stored_log FILE` records one by the program that is here. What was recorded stays as it is.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from base64 import b64decode, b64encode, urlsafe_b64encode
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from infra.postgres import Database
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.every_message import everything_happens
from tests.support.random_life import RandomLife
from tests.support.service import running, settings_for

STEPS = 120
SERVICE_KEY = urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")
"""No secret: it opens nothing but these files."""

_EVENTS = "SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events ORDER BY 1"
_SUBJECTS = "SELECT subject_id, lookup_hash, wrapped_key FROM data_subjects ORDER BY 1"


def settings(folder: Path) -> Any:
    """Return settings of a service with the keys of stored logs."""
    return settings_for(folder, SERVICE_KEY=SERVICE_KEY)


async def recorded() -> dict[str, Any]:
    """Let everything happen to a service, and return what it stored and answers."""
    with TemporaryDirectory() as folder, Cluster() as cluster:
        database = cluster.new_database()
        async with running(settings(Path(folder)), database) as (_, client):
            await everything_happens(client, database)
            life = RandomLife(client, seed=41)
            await life.begin(3)
            for _ in range(STEPS):
                await life.step()
            answers = await answers_of(client)
            return {"program": _program(), **_stored(database), "answers": answers}


def _program() -> str:
    command = ["git", "describe", "--always", "--tags"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _stored(database: Database) -> dict[str, Any]:
    with database.connect() as connection:
        events = connection.execute(_EVENTS).fetchall()
        subjects = connection.execute(_SUBJECTS).fetchall()
    return {
        "events": [
            [row["notification_id"], str(row["originator_id"]), row["originator_version"], row["topic"], _text(row)]
            for row in events
        ],
        "data_subjects": [
            [str(row["subject_id"]), _encoded(row["lookup_hash"]), _encoded(row["wrapped_key"])] for row in subjects
        ],
    }


def _text(row: dict[str, Any]) -> str:
    return bytes(row["state"]).decode()


def _encoded(blob: bytes | None) -> str | None:
    """Encode a hash or a key; whose are gone was erased."""
    return None if blob is None else b64encode(bytes(blob)).decode()


def _decoded(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)


async def answers_of(client: Client) -> dict[str, Any]:
    """Ask for all that follows from the log alone, but for API keys that each start of a test makes."""
    licenses = (await client.admin("GET", "/licenses?per_page=100"))["licenses"]
    devices = {one["license_id"]: await _devices(client, one["license_id"]) for one in licenses}
    anomalies = (await client.admin("GET", "/anomalies"))["anomalies"]
    return {"licenses": licenses, "devices": devices, "anomalies": anomalies}


async def _devices(client: Client, license_id: str) -> list[dict[str, Any]]:
    shown = (await client.admin("GET", f"/licenses/{license_id}/devices"))["devices"]
    return [{**device, "last_seen_at": None} for device in shown]  # It follows from uses.


def restore(database: Database, log: dict[str, Any]) -> None:
    """Put what was recorded into an empty database."""
    events = [(row[0], UUID(row[1]), *row[2:4], row[4].encode()) for row in log["events"]]
    subjects = [(UUID(id), _decoded(lookup), _decoded(key)) for id, lookup, key in log["data_subjects"]]
    with database.connect_owner() as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO lizenzserver.licensing_events"
            " (notification_id, originator_id, originator_version, topic, state) VALUES (%s, %s, %s, %s, %s)",
            events,
        )
        cursor.executemany(
            "INSERT INTO lizenzserver.data_subjects (subject_id, lookup_hash, wrapped_key) VALUES (%s, %s, %s)",
            subjects,
        )
        cursor.execute("SELECT setval('lizenzserver.licensing_events_notification_id_seq', %s)", (events[-1][0],))


if __name__ == "__main__":
    log = asyncio.run(recorded())
    Path(sys.argv[1]).write_text(json.dumps(log, indent=1, ensure_ascii=False) + "\n", "utf-8")
