"""What the services' login may do by itself, with no role taken: what its role may, whatever it takes or resets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from cli.embedded import LOGIN, OWNER, EmbeddedServer
from infra.migrations import migrate
from infra.postgres import SERVICE_ROLE, Database
from tests.security.test_database_role import FORBIDDEN
from tests.support.own_server import own_server
from tests.support.service import settings_for

BECOME = [
    "SET ROLE {owner}",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION {owner}",
    "SET SESSION AUTHORIZATION postgres",
    "ALTER ROLE {login} SUPERUSER",
    "ALTER ROLE {login} CREATEROLE",
    "ALTER ROLE {owner} PASSWORD 'mine'",
    "GRANT {owner} TO {login}",
    "GRANT pg_write_all_data TO {login}",
    "REASSIGN OWNED BY {owner} TO {login}",
    "ALTER TABLE lizenzserver.licensing_events OWNER TO {login}",
    "ALTER DATABASE {database} OWNER TO {login}",
    "SET session_replication_role = replica",
    "ALTER TABLE lizenzserver.licensing_events ADD COLUMN mine int",
    "ALTER TABLE lizenzserver.licensing_events DROP COLUMN state",
    "ALTER TABLE lizenzserver.licensing_events DISABLE ROW LEVEL SECURITY",
    "ALTER SCHEMA lizenzserver RENAME TO mine",
    "DROP SCHEMA lizenzserver CASCADE",
    "CREATE TRIGGER mine BEFORE INSERT ON lizenzserver.usage EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE RULE mine AS ON INSERT TO lizenzserver.licensing_events DO INSTEAD NOTHING",
    "CREATE OR REPLACE FUNCTION lizenzserver.drop_usage_partitions(date) RETURNS void LANGUAGE sql AS ''",
    "MERGE INTO lizenzserver.licensing_events a USING (SELECT 1) b ON true WHEN MATCHED THEN DELETE",
    "SELECT * FROM lizenzserver.licensing_events FOR UPDATE",
    "BEGIN; LOCK TABLE lizenzserver.licensing_events IN ACCESS EXCLUSIVE MODE",
    "CLUSTER lizenzserver.licensing_events",
]


@pytest.fixture(scope="module", params=["the embedded server's", "one's own server's"])
def login(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Give the names of a login, of the owner and of the database, and the login's address."""
    if request.param == "the embedded server's":
        folder: Path = tmp_path_factory.mktemp("login")
        with EmbeddedServer(settings_for(folder)) as server:
            migrate(server.database)
            yield _named(server.database.url, LOGIN, OWNER)
        return
    with own_server() as (_, settings):
        migrate(Database(settings["DATABASE_URL"], settings["DATABASE_OWNER_URL"]))
        yield _named(settings["DATABASE_URL"], "licensing_app", "licensing_owner")


def _named(url: str, login: str, owner: str) -> dict[str, str]:
    database = str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])
    return {"url": url, "login": login, "owner": owner, "service": SERVICE_ROLE, "database": database}


def connect(login: dict[str, str]) -> psycopg.Connection[tuple[object, ...]]:
    """Connect as a thief of the address would: with no role."""
    return psycopg.connect(login["url"], autocommit=True, options="-c search_path=lizenzserver")


@pytest.mark.parametrize("statement", [*FORBIDDEN, *BECOME])
@pytest.mark.parametrize("role", ["", "RESET ROLE", "SET ROLE NONE", "SET ROLE lizenzserver_service"])
def test_it_may_not(login: dict[str, str], statement: str, role: str) -> None:
    refused = (errors.InsufficientPrivilege, errors.WrongObjectType, errors.InvalidGrantOperation)
    with connect(login) as connection:
        if role:
            connection.execute(role)
        with pytest.raises(refused):
            connection.execute(statement.format(**login))


def test_it_may_give_itself_nothing(login: dict[str, str]) -> None:
    """Granting what one does not have is a warning and no error; what counts is that nothing comes of it."""
    with connect(login) as connection:
        for receiver in (login["login"], SERVICE_ROLE, "PUBLIC"):
            connection.execute(f"GRANT ALL ON licensing_events TO {receiver}")
        for statement in ("UPDATE licensing_events SET topic = topic", "DELETE FROM licensing_events"):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement)


def test_it_is_a_member_of_nothing_but_the_services_role(login: dict[str, str]) -> None:
    with connect(login) as connection:
        roles = connection.execute(
            "SELECT rolname FROM pg_roles WHERE pg_has_role(%s, oid, 'MEMBER') ORDER BY 1", (login["login"],)
        ).fetchall()
        powers = connection.execute(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles"
            " WHERE pg_has_role(%s, oid, 'MEMBER')",
            (login["login"],),
        ).fetchall()

    assert roles == [(name,) for name in sorted([login["login"], SERVICE_ROLE])]
    assert set(powers) == {(False,) * 5}


def test_it_owns_nothing(login: dict[str, str]) -> None:
    with connect(login) as connection:
        owned = connection.execute(
            "SELECT relname::text FROM pg_class WHERE pg_has_role(%(login)s, relowner, 'USAGE')"
            " UNION ALL SELECT proname::text FROM pg_proc WHERE pg_has_role(%(login)s, proowner, 'USAGE')"
            " UNION ALL SELECT nspname::text FROM pg_namespace WHERE pg_has_role(%(login)s, nspowner, 'USAGE')",
            login,
        ).fetchall()

    assert owned == []


def test_past_events_are_read_and_new_ones_appended(login: dict[str, str]) -> None:
    """What is left to it is what the service needs; nothing here is refused for another reason than rights."""
    with connect(login) as connection, connection.transaction(force_rollback=True):
        connection.execute(
            "INSERT INTO licensing_events (originator_id, originator_version, topic, state)"
            " VALUES (gen_random_uuid(), 1, 'license.issued', '{}')"
        )
        found = connection.execute("SELECT count(*) FROM licensing_events").fetchone()

    assert found == (1,)
