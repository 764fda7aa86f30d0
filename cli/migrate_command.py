"""`lizenzserver migrate`: bring the database to this program's schema."""

from __future__ import annotations

import typer

from cli.output import AsJson, say, working, write_json
from cli.teaching import examples


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(
        cls=examples("""
            lizenzserver migrate
            DATABASE_URL=postgresql://service@db/licences DATABASE_OWNER_URL=postgresql://owner@db/licences \\
                lizenzserver migrate
        """)
    )(migrate)


def migrate(as_json: AsJson = False) -> None:
    """Bring the database to this program's schema.

    `serve` does it too; this is for databases whose services may not change the schema. It connects by
    DATABASE_OWNER_URL where that is set. A repeat changes nothing.
    """
    from cli.database import bring_up_to_date, opened, settings_for_command

    steps: list[str] = []
    settings = settings_for_command()
    with working("Migrating"), opened(settings) as database:
        bring_up_to_date(database, steps.append)
    if as_json:
        write_json({"applied": steps})
    else:
        say("\n".join(f"applied {step}" for step in steps) or "nothing to do: the schema is up to date")
