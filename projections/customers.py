"""Who a customer is, and what is stored of one: data subjects, their licences, and what both logs hold of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection

_BY_LOOKUP = "SELECT subject_id FROM data_subjects WHERE lookup_hash = %s AND wrapped_key IS NOT NULL"

# Whoever has a customer id is found by that alone: a company's licences carry the e-mails of several people. Nor is
# anybody found by an e-mail that only some of the licences carry, such as one that was handed on.
_BY_EMAIL = """
    SELECT s.subject_id FROM data_subjects s WHERE s.lookup_hash = %(hash)s AND s.wrapped_key IS NOT NULL
    UNION
    SELECT l.subject_id FROM licenses l JOIN data_subjects s USING (subject_id)
    WHERE l.email_hash = %(hash)s AND l.customer_id_sealed IS NULL AND s.wrapped_key IS NOT NULL
        AND NOT EXISTS (
            SELECT FROM licenses other
            WHERE other.subject_id = l.subject_id AND other.email_hash IS DISTINCT FROM %(hash)s
        )
    ORDER BY subject_id
"""
_OTHERS_WITH_EMAIL = """
    SELECT license_id FROM licenses WHERE email_hash = %s AND NOT subject_id = ANY(%s) ORDER BY position
"""
_BY_SUBJECT = "SELECT subject_id FROM data_subjects WHERE subject_id = %s AND wrapped_key IS NOT NULL"
_BY_LICENSE = """
    SELECT subject_id FROM licenses JOIN data_subjects USING (subject_id)
    WHERE license_id = %s AND wrapped_key IS NOT NULL
"""
_LICENSES = "SELECT subject_id, license_id FROM licenses WHERE subject_id = ANY(%s) ORDER BY position"

SUBJECTS = "SELECT subject_id, wrapped_key, created_at FROM data_subjects WHERE subject_id = ANY(%s)"

ANOMALIES = "SELECT anomaly_id FROM anomalies WHERE license_id = ANY(%s) ORDER BY position"

EVENTS = """
    SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events
    WHERE originator_id = ANY(%(licenses)s) AND notification_id > %(after)s ORDER BY notification_id LIMIT %(most)s
"""

USAGE = """
    SELECT id, occurred_at, type, operation, license_id, subject_id, hardware_id, api_key_id, reason, app_version,
        client_time, country, details_sealed, session_sealed
    FROM usage WHERE license_id = ANY(%(licenses)s) AND id > %(after)s ORDER BY id LIMIT %(most)s
"""


async def by_lookup(connection: Any, lookup_hash: bytes) -> list[UUID]:
    """Return the data subject with this lookup hash, if there is one that was not erased."""
    return await _subjects(connection, _BY_LOOKUP, (lookup_hash,))


async def by_email(connection: Any, email_hash: bytes) -> list[UUID]:
    """Return the data subjects without a customer id that an e-mail stands for: when first seen, or on all licences."""
    return await _subjects(connection, _BY_EMAIL, {"hash": email_hash})


async def by_subject(connection: Any, subject_id: UUID) -> list[UUID]:
    """Return the data subject with this id, if there is one that was not erased."""
    return await _subjects(connection, _BY_SUBJECT, (subject_id,))


async def by_license(connection: Any, license_id: UUID) -> list[UUID]:
    """Return the data subject of a licence, if it was not erased."""
    return await _subjects(connection, _BY_LICENSE, (license_id,))


async def _subjects(connection: Any, query: str, parameters: Any) -> list[UUID]:
    return [row["subject_id"] for row in await (await connection.execute(query, parameters)).fetchall()]


async def others_with_email(connection: Any, email_hash: bytes, subject_ids: Sequence[UUID]) -> list[UUID]:
    """Return the licences of other data subjects that carry an e-mail."""
    cursor = await connection.execute(_OTHERS_WITH_EMAIL, (email_hash, list(subject_ids)))
    return [row["license_id"] for row in await cursor.fetchall()]


async def licenses_by_subject(connection: Any, subject_ids: Sequence[UUID]) -> dict[UUID, list[UUID]]:
    """Return the licences of data subjects; an empty list for one that has none."""
    found: dict[UUID, list[UUID]] = {subject_id: [] for subject_id in subject_ids}
    for row in await (await connection.execute(_LICENSES, (list(subject_ids),))).fetchall():
        found[row["subject_id"]].append(row["license_id"])
    return found


def licenses_of(connection: Connection[Any], subject_id: UUID) -> tuple[UUID, ...]:
    """Return the licences of a data subject, by a synchronous connection."""
    return tuple(row["license_id"] for row in connection.execute(_LICENSES, ([subject_id],)).fetchall())
