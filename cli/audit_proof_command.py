"""`lizenzserver audit verify`, `key`, `receipt`, `export`: what was signed of the log, and whether it still is that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from cli.errors import Failure
from cli.output import AsJson, say, write_json
from cli.teaching import examples

if TYPE_CHECKING:
    from cli.audit_verify import Verified
    from domain.audit.checkpoint import VerifierKey
    from infra.postgres import Database
    from infra.settings import Settings

Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to; default: stdout.")]
Checkpoint = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Checkpoints that were kept elsewhere; default: the data folder's last one."),
]
Key = Annotated[
    str | None, typer.Option(metavar="KEY|FILE", help="Whose signature to believe; default: this service's own key.")
]
Export = Annotated[Path | None, typer.Option(metavar="FILE", help="Check an export; no database is needed.")]


def register(group: typer.Typer) -> None:
    """Add the commands to the group."""
    group.command("verify", cls=examples(_VERIFY))(verify)
    group.command("key", cls=examples("lizenzserver audit key > key.txt"))(key)
    group.command("receipt", cls=examples(_RECEIPT))(receipt)
    group.command("export", cls=examples("lizenzserver audit export --output log.jsonl"))(export)


_VERIFY = """
lizenzserver audit verify
lizenzserver audit verify --checkpoint kept.txt --key key.txt
lizenzserver audit verify --export log.jsonl --checkpoint kept.txt --key key.txt
"""
_RECEIPT = """
lizenzserver audit receipt 6f1c8d0e-5b1d-4e0c-8a35-0d3a5f7c2b90 > receipt.json
node docs/examples/verify_receipt.mjs receipt.json "$(lizenzserver audit key)"
"""


def verify(checkpoint: Checkpoint = None, key: Key = None, export: Export = None, as_json: AsJson = False) -> None:
    """Hash every event anew, and compare with what was signed: every event, every node of the tree, every checkpoint.

    Leaves with 1 where anything differs, and says what. Give checkpoints that were kept where nobody who can change the
    database can change them; those that the data folder holds prove something only to whoever trusts this machine.
    """
    from cli.audit_verify import of_database, of_export, trusted_checkpoints

    if export is not None:
        if checkpoint is None or key is None:
            raise Failure("to check an export, give --checkpoint and --key")
        believed = _key_given(key)
        found = of_export(export, trusted_checkpoints(_text_of(checkpoint), believed), believed)
    else:
        from cli.database import opened_for_command

        settings = _settings()
        with opened_for_command(settings) as database:
            believed = _key_given(key) if key is not None else _own_key(settings, database)
            notes = _text_of(checkpoint) if checkpoint is not None else _kept(settings)
            found = of_database(database, trusted_checkpoints(notes, believed), believed)
    _tell(found, as_json)


def key(as_json: AsJson = False) -> None:
    """Print the public key by which checkpoints are verified (C2SP signed-note). Hand it to auditors early.

    It needs the notary's own key: run it where the notary runs.
    """
    from cli.database import opened_for_command

    settings = _settings()
    with opened_for_command(settings) as database:
        own = _own_key(settings, database)
    if as_json:
        write_json({"name": own.name, "verifier_key": str(own)})
    else:
        typer.echo(str(own))


def receipt(event_id: Annotated[UUID, typer.Argument(help="The event's id.")], output: Output = None) -> None:
    """Write the receipt of an event as JSON: the event as it is stored, its proof, and the checkpoint.

    Whoever has it and the public key can check it without the service. Personal data in it stays encrypted.
    """
    import asyncio

    from cli.database import opened_for_command
    from projections import audit_receipts

    async def read() -> Any:
        async with await database.connect_async() as connection:
            return await audit_receipts.receipt(connection, event_id)

    with opened_for_command(_settings()) as database:
        found = asyncio.run(read())
    if output is None:
        write_json(found)
        return
    import msgspec

    from cli.private_file import draft_of

    with draft_of(output) as draft:
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")


def export(output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to.")]) -> None:
    """Write all events as they are stored, and the last checkpoint, as lines of JSON for `audit verify --export`.

    Personal data in it stays encrypted.
    """
    from cli.audit_export import write_export
    from cli.database import opened_for_command

    with opened_for_command(_settings()) as database:
        count = write_export(database, output)
    say(f"{count} events written to {output}")


def _settings() -> Settings:
    from cli.database import settings_for_command

    return settings_for_command()


def _own_key(settings: Settings, database: Database) -> VerifierKey:
    """Return the public half of this machine's key, under the name that the notary gives it."""
    from infra.notary_key import NotaryKey

    if not NotaryKey.is_there(settings):
        raise Failure("this machine has no notary's key: run this where the notary runs, or give a key")
    with database.connect() as connection:
        row = connection.execute("SELECT key_fingerprint FROM service_identity").fetchone()
    if row is None and settings.audit_origin is None:
        raise Failure("no service has been started on this database yet")
    return NotaryKey.open(settings, row["key_fingerprint"] if row else "").verifier


def _key_given(text: str) -> VerifierKey:
    """Return the key that a text is, or that a file of that name holds."""
    from domain.audit.checkpoint import BadCheckpoint, VerifierKey

    try:
        return VerifierKey.parse(_text_of(Path(text)) if Path(text).is_file() else text)
    except BadCheckpoint as error:
        raise Failure(f"--key: {error}") from None


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise Failure(f"{path} is no text") from None


def _kept(settings: Settings) -> str:
    from infra.notary_key import KeptCheckpoint

    text = KeptCheckpoint(settings.data_dir).read()
    if text is None:
        raise Failure("the data folder holds no checkpoint: give one with --checkpoint")
    return text


def _tell(found: Verified, as_json: bool) -> None:
    report = found.report
    if as_json:
        write_json(found.as_json())
    else:
        for line in found.lines():
            typer.echo(line)
        for fault in report.faults:
            typer.echo(f"FAULT  {fault}")
        if report.fault_count > len(report.faults):
            typer.echo(f"FAULT  and {report.fault_count - len(report.faults)} more")
    if report.fault_count:
        raise Failure("the log is not what was signed")
