"""`lizenzserver admins`: named admin keys, so that history says who did what."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.errors import Failure
from cli.output import AsJson, say, write_json, write_table
from cli.teaching import examples

if TYPE_CHECKING:
    from psycopg import Connection

MAX_NAME = 64
RESERVED = frozenset({"default", "secret", "licenses-api"})
"""What history calls the credentials that come from settings."""

_ADD = """
    INSERT INTO admin_keys (name, key_digest, created_at) VALUES (%s, %s, clock_timestamp())
    ON CONFLICT (name) DO UPDATE
        SET key_digest = excluded.key_digest, created_at = excluded.created_at, removed_at = NULL
        WHERE admin_keys.removed_at IS NOT NULL
    RETURNING name
"""

_REMOVE = "UPDATE admin_keys SET removed_at = clock_timestamp() WHERE name = %s AND removed_at IS NULL RETURNING name"

_LIST = "SELECT name, created_at, removed_at FROM admin_keys ORDER BY created_at, name"

Name = Annotated[str, typer.Argument(help="1 to 64 characters; it stands in history as admin:NAME.")]


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Named admin keys, beside the one from the settings.")
    group.command(cls=examples("lizenzserver admins add maria\nlizenzserver admins add ci --json | jq -r .admin_key"))(
        add
    )
    group.command("list", cls=examples("lizenzserver admins list"))(list_admins)
    group.command(cls=examples("lizenzserver admins remove maria"))(remove)
    app.add_typer(group, name="admins")


def add(name: Name, as_json: AsJson = False) -> None:
    """Make an admin key for a person or a program, and print it: this once and never again.

    It works at once on all running servers, in the header X-Admin-API-Key. Only its SHA-256 is stored.
    """
    from infra.api_secrets import digest

    name = _checked(name)
    key = f"adm_{secrets.token_urlsafe(32)}"
    with _connection() as connection:
        if connection.execute(_ADD, (name, digest(key))).fetchone() is None:
            raise Failure(f"there is an admin named {name} already: remove it first, or choose another name")
    if as_json:
        write_json({"name": name, "admin_key": key})
    else:
        say(f"The admin key of {name}, shown this once:")
        typer.echo(key)


def list_admins(as_json: AsJson = False) -> None:
    """List the named admins, removed ones too."""
    with _connection() as connection:
        rows = connection.execute(_LIST).fetchall()
    if as_json:
        write_json({"admins": rows})
    else:
        write_table(["name", "created", "removed"], [list(row.values()) for row in rows])


def remove(name: Name, as_json: AsJson = False) -> None:
    """End an admin's key: the next request with it is refused, on all running servers."""
    with _connection() as connection:
        if connection.execute(_REMOVE, (name.strip(),)).fetchone() is None:
            raise Failure(f"there is no admin named {name.strip()}")
    if as_json:
        write_json({"name": name.strip(), "removed": True})
    else:
        say(f"{name.strip()} is no admin any more")


@contextmanager
def _connection() -> Iterator[Connection[dict[str, Any]]]:
    from cli.database import opened_for_command, settings_for_command

    with opened_for_command(settings_for_command()) as database, database.connect() as connection:
        yield connection


def _checked(name: str) -> str:
    trimmed = name.strip()
    if not 1 <= len(trimmed) <= MAX_NAME or not trimmed.isprintable():
        raise Failure(f"an admin's name has 1 to {MAX_NAME} printable characters")
    if trimmed.lower() in RESERVED:
        raise Failure(f"{trimmed} stands for a credential from the settings: choose another name")
    return trimmed
