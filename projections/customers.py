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
# Lists of licences come as one array each: as rows, 50,000 of them would hold up everybody for a second.
_OTHERS_WITH_EMAIL = """
    SELECT coalesce(array_agg(license_id ORDER BY position), '{}') AS license_ids FROM licenses
    WHERE NOT subject_id = ANY(%(found)s) AND email_hash IN (
        SELECT %(hash)s::bytea UNION SELECT email_hash FROM licenses WHERE subject_id = ANY(%(found)s)
    )
"""
_BY_SUBJECT = "SELECT subject_id FROM data_subjects WHERE subject_id = %s AND wrapped_key IS NOT NULL"
_BY_LICENSE = """
    SELECT subject_id FROM licenses JOIN data_subjects USING (subject_id)
    WHERE license_id = %s AND wrapped_key IS NOT NULL
"""
_LICENSES = """
    SELECT subject_id, array_agg(license_id ORDER BY position) AS license_ids
    FROM licenses WHERE subject_id = ANY(%s) GROUP BY subject_id
"""

SUBJECTS = "SELECT subject_id, wrapped_key, created_at FROM data_subjects WHERE subject_id = ANY(%s)"

# Each licence is looked up by the index of licences, and by no other one (OFFSET 0, + 0): of who has very many, all of
# the log would be read else, once or for each.
EVENTS = """
    SELECT found.* FROM unnest(%(licenses)b::uuid[]) AS license (id) CROSS JOIN LATERAL (
        SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events
        WHERE originator_id = license.id AND notification_id + 0 > %(after)s OFFSET 0
    ) AS found
    ORDER BY found.notification_id LIMIT %(most)s
"""

USAGE = """
    SELECT found.* FROM unnest(%(licenses)b::uuid[]) AS license (id) CROSS JOIN LATERAL (
        SELECT id, occurred_at, type, operation, license_id, subject_id, hardware_id, api_key_id, reason, app_version,
            client_time, country, details_sealed, session_sealed
        FROM usage WHERE license_id = license.id AND id + 0 > %(after)s OFFSET 0
    ) AS found
    ORDER BY found.id LIMIT %(most)s
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
    found: list[UUID] = (await cursor.fetchone())["license_ids"]
    return found


async def licenses_by_subject(connection: Any, subject_ids: Sequence[UUID]) -> dict[UUID, list[UUID]]:
    """Return the licences of data subjects; an empty list for one that has none."""
    rows = await (await connection.execute(_LICENSES, (list(subject_ids),))).fetchall()
    return {subject_id: [] for subject_id in subject_ids} | {row["subject_id"]: row["license_ids"] for row in rows}


def licenses_of(connection: Connection[Any], subject_id: UUID) -> tuple[UUID, ...]:
    """Return the licences of a data subject, by a synchronous connection."""
    row = connection.execute(_LICENSES, ([subject_id],)).fetchone()
    return () if row is None else tuple(row["license_ids"])
