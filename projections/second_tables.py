"""A second copy of a table, empty, in another schema; and the copy in the place of the first."""

from __future__ import annotations

from typing import Any

from psycopg import Connection
from psycopg.sql import SQL, Composed, Identifier

LIVE = "lizenzserver"
"""The schema whose tables are served."""

_OPTIONS = "SELECT coalesce(array_to_string(reloptions, ', '), '') AS options FROM pg_class WHERE oid = %s::regclass"

_INDEXES = """
    SELECT name.relname AS name,
        replace(replace(pg_get_indexdef(i.indexrelid), name.relname, ''), name.relnamespace::regnamespace::text, '')
            AS definition
    FROM pg_index i JOIN pg_class name ON name.oid = i.indexrelid WHERE i.indrelid = %s::regclass
"""


_RIGHTS = """
    SELECT role.rolname AS grantee, acl.privilege_type AS privilege, acl.is_grantable AS grantable
    FROM pg_class table_, aclexplode(table_.relacl) AS acl LEFT JOIN pg_roles role ON role.oid = acl.grantee
    WHERE table_.oid = %s::regclass AND acl.grantee <> table_.relowner
"""


def in_schema(schema: str, table: str) -> Composed:
    """Return the table's full name for a statement."""
    return SQL("{}.{}").format(Identifier(schema), Identifier(table))


def make_like(connection: Connection[Any], schema: str, table: str) -> None:
    """Make an empty table with the columns, constraints, indexes and storage options of the live one."""
    row = connection.execute(_OPTIONS, (f"{LIVE}.{table}",)).fetchone()
    assert row is not None
    statement = SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(in_schema(schema, table), in_schema(LIVE, table))
    # LIKE leaves out storage options; their text is the catalogue's own.
    options = SQL(" WITH (") + SQL(row["options"]) + SQL(")") if row["options"] else SQL("")
    connection.execute(statement + options)


def put_in_place(connection: Connection[Any], schema: str, table: str) -> None:
    """Drop the live table and make the other one live, with the names of its indexes and everybody's rights."""
    rights = connection.execute(_RIGHTS, (f"{LIVE}.{table}",)).fetchall()
    names = {definition: name for name, definition in _indexes(connection, LIVE, table)}
    connection.execute(SQL("DROP TABLE {}").format(in_schema(LIVE, table)))
    connection.execute(SQL("ALTER TABLE {} SET SCHEMA {}").format(in_schema(schema, table), Identifier(LIVE)))
    for name, definition in _indexes(connection, LIVE, table):
        if name != names[definition]:
            connection.execute(
                SQL("ALTER INDEX {} RENAME TO {}").format(in_schema(LIVE, name), Identifier(names[definition]))
            )
    for right in rights:
        grantee = Identifier(right["grantee"]) if right["grantee"] else SQL("PUBLIC")
        statement = SQL("GRANT {} ON {} TO {}").format(SQL(right["privilege"]), in_schema(LIVE, table), grantee)
        connection.execute(statement + SQL(" WITH GRANT OPTION") if right["grantable"] else statement)


def _indexes(connection: Connection[Any], schema: str, table: str) -> list[tuple[str, str]]:
    rows = connection.execute(_INDEXES, (f"{schema}.{table}",)).fetchall()
    return [(row["name"], row["definition"]) for row in rows]
