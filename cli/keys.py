"""`lizenzserver keys`: the Ed25519 keys that sign tokens and answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from cli.output import AsJson, say, write_json, write_table
from cli.teaching import examples

if TYPE_CHECKING:
    from infra.keyring import Keyring


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="The keys that sign tokens and answers.")
    group.command("list", cls=examples("lizenzserver keys list --json"))(list_keys)
    group.command("rotate", cls=examples("lizenzserver keys rotate"))(rotate)
    app.add_typer(group, name="keys")


def list_keys(as_json: AsJson = False) -> None:
    """List the keys whose signatures are accepted, the one that signs now first.

    Their public halves are on every service at /.well-known/jwks.json.
    """
    from infra.keyring import ACCEPTED_AFTER_RETIREMENT

    keyring, now = _keyring(), datetime.now(UTC)
    keys = [
        {
            "kid": pair.kid,
            "state": "retired" if pair.retired_at else "signing",
            "created_at": pair.created_at,
            "retired_at": pair.retired_at,
            "accepted_until": pair.retired_at + ACCEPTED_AFTER_RETIREMENT if pair.retired_at else None,
        }
        for pair in keyring.accepted(now)
    ]
    if as_json:
        write_json({"keys": keys})
    else:
        write_table(["kid", "state", "created", "retired", "accepted until"], [list(key.values()) for key in keys])


def rotate(as_json: AsJson = False) -> None:
    """Make a new signing key and retire the old one.

    Running servers on this data folder sign with the new key from their next answer on. What the old key has signed
    stays valid until it expires: the old public key is kept for 31 days, a day longer than any token lives.
    """
    kid = _keyring().rotate(datetime.now(UTC))
    if as_json:
        write_json({"kid": kid})
    else:
        say(f"{kid} signs from now on")


def _keyring() -> Keyring:
    from cli.core import open_keyring
    from cli.database import settings_for_command

    return open_keyring(settings_for_command())
