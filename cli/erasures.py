"""The register of erasures and the database, made to say the same at every start, before anything is served."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import Connection

from commands.application import LicensingApplication
from commands.event_mapper import decoder
from commands.recorder import OrderOutdated
from domain.facts import Cause, CustomerErased, Recorded
from infra.erasure_register import Erasure, ErasureRegister
from infra.postgres import Database
from projections import customers

log = logging.getLogger(__name__)

ACTOR = "job:erasure-register"

MAX_ATTEMPTS = 20
"""How often a subject is tried again because another process was first, or issued a licence meanwhile."""

_WITH_KEYS = "SELECT subject_id FROM data_subjects WHERE subject_id = ANY(%s) AND wrapped_key IS NOT NULL"
_ERASED = "SELECT subject_id FROM data_subjects WHERE wrapped_key IS NULL"
_LAST_VERSION = """
    SELECT coalesce(max(originator_version), 0) AS version, clock_timestamp() AS now
    FROM licensing_events WHERE originator_id = %s
"""
_EVENTS = """
    SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events
    WHERE originator_id = ANY(%s) AND topic = 'customer.erased' ORDER BY notification_id
"""


def reconcile(database: Database, application: LicensingApplication, register: ErasureRegister) -> None:
    """Destroy the keys of all who are in the register, and add to it whom the database alone knows to be erased.

    Raises psycopg's errors, and OSError where the register can't be read: to serve without it could show whom a
    restored backup has brought back.
    """
    if not register.path.exists():
        # So that it is there to be copied. Who may only read it has none to make.
        with suppress(OSError):
            register.add(())
    known = register.read()
    with database.connect("lizenzserver-erasures") as connection:
        listed = {erasure.subject_id: erasure for erasure in known}
        for row in connection.execute(_WITH_KEYS, (list(listed),)).fetchall():
            _erase(connection, application, listed[row["subject_id"]])
        erased = [row["subject_id"] for row in connection.execute(_ERASED).fetchall()]
        if missing := [subject_id for subject_id in erased if subject_id not in listed]:
            _complete(connection, register, missing)


def _erase(connection: Connection[Any], application: LicensingApplication, erasure: Erasure) -> None:
    """Erase a subject whose key is there though the register has it: it came back, or the first order never came."""
    subject_id = erasure.subject_id
    for _ in range(MAX_ATTEMPTS):
        row = connection.execute(_LAST_VERSION, (subject_id,)).fetchone()
        assert row is not None
        event = Recorded(
            originator_id=subject_id,
            originator_version=row["version"] + 1,
            event_id=uuid4(),
            occurred_at=row["now"].astimezone(UTC),
            subject_id=None,
            cause=Cause(actor=ACTOR, command="EraseCustomer", command_id=uuid4(), request_id=str(uuid4())),
            fact=CustomerErased(
                license_ids=customers.licenses_of(connection, subject_id),
                ordered_at=erasure.ordered_at,
                ordered_by=erasure.ordered_by,
            ),
        )
        try:
            application.events.put([event], recorded=[event], connection=connection)
        except (psycopg.errors.UniqueViolation, OrderOutdated):
            # Another process that starts was first, or a licence was issued meanwhile.
            if not connection.execute(_WITH_KEYS, ([subject_id],)).fetchall():
                return
            continue
        log.warning("data subject %s was erased again, by the register of %s", subject_id, erasure.ordered_at)
        return
    msg = f"data subject {subject_id} can't be erased by the register: its licences keep changing"
    raise psycopg.OperationalError(msg)


def _complete(connection: Connection[Any], register: ErasureRegister, missing: Sequence[UUID]) -> None:
    """Add those who were erased by processes with another register, such as on another machine."""
    found: dict[UUID, Erasure] = {}
    decode = decoder()
    for row in connection.execute(_EVENTS, (list(missing),)).fetchall():
        event = decode(row)
        assert isinstance(event.fact, CustomerErased)
        by = event.fact.ordered_by or event.cause.actor
        at = event.fact.ordered_at or event.occurred_at
        found.setdefault(event.originator_id, Erasure(subject_id=event.originator_id, ordered_at=at, ordered_by=by))
    # Where the event is gone or can't be read, that the key is gone is reason enough.
    now = datetime.now(UTC)
    unknown = [one for one in missing if one not in found]
    found |= {one: Erasure(subject_id=one, ordered_at=now, ordered_by="unknown") for one in unknown}
    try:
        register.add(found.values())
    except OSError as error:
        log.warning("the register of erasures lacks %d of them, and can't be written: %s", len(found), error)
