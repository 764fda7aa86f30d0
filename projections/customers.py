"""Who a customer is, and what is stored of one: data subjects, their licences, and what both logs hold of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection

_BY_LOOKUP = "SELECT subject_id FROM data_subjects WHERE lookup_hash = %s AND wrapped_key IS NOT NULL"

# Whoever has a customer id is found by that alone: a company's licences carry the e-mails of several people. Nor is
# anybody found by an e-mail that only some of the licences carry, such as one that was handed on.
# Each subject is looked at once, and not once for each licence.
_BY_EMAIL = """
    WITH named AS MATERIALIZED (
        SELECT DISTINCT subject_id FROM licenses WHERE email_hash = %(hash)s AND customer_id_sealed IS NULL
    )
    SELECT s.subject_id FROM data_subjects s WHERE s.lookup_hash = %(hash)s AND s.wrapped_key IS NOT NULL
    UNION
    SELECT n.subject_id FROM named n JOIN data_subjects s USING (subject_id)
    WHERE s.wrapped_key IS NOT NULL
        AND NOT EXISTS (
            SELECT FROM licenses other
            WHERE other.subject_id = n.subject_id AND other.email_hash IS DISTINCT FROM %(hash)s
        )
    ORDER BY subject_id
"""
_OTHERS_WITH_EMAIL = """
    SELECT license_id FROM licenses
    WHERE NOT subject_id = ANY(%(found)s) AND email_hash IN (
        SELECT %(hash)s::bytea UNION SELECT email_hash FROM licenses WHERE subject_id = ANY(%(found)s)
    )
    ORDER BY position
"""
_BY_SUBJECT = "SELECT subject_id FROM data_subjects WHERE subject_id = %s AND wrapped_key IS NOT NULL"
_BY_LICENSE = """
    SELECT subject_id FROM licenses JOIN data_subjects USING (subject_id)
    WHERE license_id = %s AND wrapped_key IS NOT NULL
"""
_LICENSES = "SELECT subject_id, license_id FROM licenses WHERE subject_id = ANY(%s) ORDER BY position"

SUBJECTS = "SELECT subject_id, wrapped_key, created_at FROM data_subjects WHERE subject_id = ANY(%s)"

# Joined, so that each licence is looked up by the index: a plan for any array compares each row with all of its ids.
EVENTS = """
    SELECT e.notification_id, e.originator_id, e.originator_version, e.topic, e.state
    FROM unnest(%(licenses)s::uuid[]) AS license (id) JOIN licensing_events e ON e.originator_id = license.id
    WHERE e.notification_id > %(after)s ORDER BY e.notification_id LIMIT %(most)s
"""

USAGE = """
    SELECT u.id, u.occurred_at, u.type, u.operation, u.license_id, u.subject_id, u.hardware_id, u.api_key_id, u.reason,
        u.app_version, u.client_time, u.country, u.details_sealed, u.session_sealed
    FROM unnest(%(licenses)s::uuid[]) AS license (id) JOIN usage u ON u.license_id = license.id
    WHERE u.id > %(after)s ORDER BY u.id LIMIT %(most)s
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


async def others_with_email(connection: Any, email_hash: bytes | None, subject_ids: Sequence[UUID]) -> list[UUID]:
    """Return the licences of other data subjects that carry an e-mail of these ones', or this one."""
    cursor = await connection.execute(_OTHERS_WITH_EMAIL, {"hash": email_hash, "found": list(subject_ids)})
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
