"""What somebody could do who got hold of the service's role in the database: append events, and not much more."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors

from infra.postgres import Database
from tests.support.client import Client
from tests.support.cluster import Cluster

# Temporary tables are not on the list: each database lets everybody make them, and they end with the session.
FORBIDDEN = [
    "UPDATE licensing_events SET topic = topic",
    "DELETE FROM licensing_events",
    "TRUNCATE licensing_events",
    "UPDATE licensing_events SET state = '' WHERE false",
    "ALTER TABLE licensing_events DISABLE TRIGGER ALL",
    "DROP TABLE licensing_events",
    "CREATE TABLE mine (a int)",
    "CREATE TABLE public.mine (a int)",
    "CREATE SCHEMA mine",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE EXTENSION dblink",
    "CREATE ROLE mine SUPERUSER",
    "UPDATE audit_tiles SET root = root",
    "DELETE FROM audit_tiles",
    "TRUNCATE audit_tiles",
    "UPDATE audit_checkpoints SET size = size",
    "DELETE FROM audit_checkpoints",
    "DELETE FROM audit_keys",
    "UPDATE usage SET license_id = NULL",
    "DELETE FROM usage",
    "TRUNCATE usage",
    "UPDATE service_identity SET key_fingerprint = 'x'",
    "DELETE FROM service_identity",
    "DELETE FROM schema_migrations",
    "TRUNCATE licenses",
    "COPY licensing_events TO PROGRAM 'cat'",
    "COPY licenses FROM PROGRAM 'echo'",
    "COPY licenses TO '/tmp/licenses'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_ls_dir('/')",
    "SELECT rolpassword FROM pg_authid",
    "SELECT lo_import('/etc/passwd')",
    "SELECT setval('licensing_events_notification_id_seq', 1)",
    "ALTER ROLE lizenzserver_service SUPERUSER",
    "ALTER SYSTEM SET fsync = off",
]


@pytest.fixture(scope="module")
def shared(cluster: Cluster) -> Iterator[Database]:
    fresh = cluster.new_database()
    yield fresh
    cluster.drop(fresh)


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_it_may_not(shared: Database, statement: str) -> None:
    with shared.connect() as connection, pytest.raises((errors.InsufficientPrivilege, errors.WrongObjectType)):
        connection.execute(statement)


APPEND_ONLY = {
    "licensing_events": ["INSERT", "SELECT"],
    "licensing_events_notification_id_seq": ["USAGE"],
    "schema_migrations": ["SELECT"],
    "service_identity": ["INSERT", "SELECT"],
    "usage": ["INSERT", "SELECT"],
    "usage_id_seq": ["SELECT"],
}
"""What it may do with that which nobody may change; with all else it may read, insert, update, delete at most."""


def test_it_has_no_right_more_than_it_needs(shared: Database) -> None:
    with shared.connect_owner() as owner:
        rows = owner.execute("""
            SELECT c.relname, coalesce(r.rolname, 'public') AS grantee, acl.is_grantable,
                array_agg(acl.privilege_type ORDER BY acl.privilege_type) AS rights
            FROM pg_class c CROSS JOIN aclexplode(c.relacl) AS acl LEFT JOIN pg_roles r ON r.oid = acl.grantee
            WHERE c.relnamespace = 'lizenzserver'::regnamespace AND acl.grantee <> c.relowner
            GROUP BY 1, 2, 3
        """).fetchall()
        callable_by_all = owner.execute("""
            SELECT proname FROM pg_proc
            WHERE pronamespace = 'lizenzserver'::regnamespace AND has_function_privilege('public', oid, 'EXECUTE')
        """).fetchall()
    assert callable_by_all == []
    assert {(row["grantee"], row["is_grantable"]) for row in rows} == {("lizenzserver_service", False)}
    rights = {row["relname"]: row["rights"] for row in rows}
    assert {name: rights.pop(name) for name in APPEND_ONLY} == APPEND_ONLY
    assert {right for name in rights for right in rights[name]} == {"SELECT", "INSERT", "UPDATE", "DELETE"}


def test_partitions_can_be_made_and_dropped_by_the_days_only(shared: Database) -> None:
    with shared.connect() as connection, pytest.raises(psycopg.Error):
        connection.execute("SELECT ensure_usage_partitions('2020-01-01', '2120-01-01')")
    # Today is the same day in all of a transaction, also at midnight.
    with shared.connect() as connection, connection.transaction():
        connection.execute("SELECT ensure_usage_partitions(current_date - 3, current_date + 1)")
        connection.execute("SELECT drop_usage_partitions('9999-01-01')")
        rows = connection.execute("""
            SELECT to_date(right(inhrelid::regclass::text, 8), 'YYYYMMDD') - current_date AS day
            FROM pg_inherits WHERE inhparent = 'usage'::regclass ORDER BY day
        """).fetchall()
    # Yesterday's rows may still come.
    assert [row["day"] for row in rows][:3] == [-1, 0, 1]


async def test_a_stored_topic_is_never_imported(
    database: Database, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who can insert a row must not be able to choose what code runs."""
    (tmp_path / "planted_module.py").write_text("class Planted: pass\n", encoding="ascii")
    monkeypatch.syspath_prepend(tmp_path)
    license, other = await client.new_license(), await client.new_license()
    for topic in ("planted_module:Planted", "os:system", "domain.license:License", "builtins:exec", "", "x" * 1000):
        with database.connect() as connection:
            version = "SELECT max(originator_version) + 1 FROM licensing_events WHERE originator_id = %(id)s"
            connection.execute(
                f"INSERT INTO licensing_events (originator_id, originator_version, topic, state)"
                f" SELECT %(id)s, ({version}), %(topic)s, '{{}}'",
                {"id": license["license_id"], "topic": topic},
            )
        for reply in (
            await client.admin("GET", f"/licenses/{license['license_id']}/events"),
            await client.activate(license, f"pc-{uuid4()}"),
        ):
            assert reply.status in {500, 503}
            assert reply.body.keys() == {"error", "error_code", "details"}
    assert "planted_module" not in sys.modules

    assert (await client.activate(other, "pc")).status == 201  # What is broken harms nobody else.
