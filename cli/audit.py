"""`lizenzserver audit`: what happened, and that nothing of it was changed."""

from __future__ import annotations

import typer

from cli import audit_diff_command, audit_proof_command, audit_replay_command


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="For auditors. All of these work while the server runs.")
    for command in (audit_replay_command, audit_diff_command, audit_proof_command):
        command.register(group)
    app.add_typer(group, name="audit")
