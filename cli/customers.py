"""`lizenzserver customers`: all that is stored of a person, and its erasure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from cli.output import AsJson, say, write_fields, write_json
from cli.teaching import examples

if TYPE_CHECKING:
    from cli.core import Workbench

T = TypeVar("T")
Name = Annotated[str, typer.Argument(metavar="ID", help="The customer id, or what --by says.")]
By = Annotated[
    Literal["customer_id", "email", "license_id", "subject_id"],
    typer.Option(help="What ID is. By e-mail only customers without an id are found."),
]

_ERASE = """
lizenzserver customers erase acme --reason "ticket 4711"
lizenzserver customers erase ann@example.com --by email --reason "ticket 4712" --yes
"""
_EXPORT = """
lizenzserver customers export acme --out acme.json
lizenzserver customers export ann@example.com --by email | jq .licenses
"""


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Customers: what is stored of a person, and its erasure.")
    group.command(cls=examples(_ERASE))(erase)
    group.command(cls=examples(_EXPORT))(export)
    app.add_typer(group, name="customers")


def erase(
    name: Name,
    reason: Annotated[str, typer.Option(help="Why; kept under a key of its own. Better a ticket than a name.")],
    by: By = "customer_id",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase a customer: destroy the key of all that is stored of that person, everywhere and for good.

    Licences go on, and their history stays, without anything personal. A backup from before still has the key: the
    register of erasures destroys it again at the first start after a restore, so keep the register.
    """
    from cli.customer_commands import erase as carry_out

    if not yes:
        typer.confirm(f"Erase {name} for good? There is no way back.", abort=True, err=True)
    erased = _with_workbench("customers-erase", lambda bench: carry_out(bench, name, by, reason))
    if as_json:
        write_json(erased)
    else:
        write_fields(erased)
        if erased["licenses_of_others"]:
            say("other licences carry an e-mail of theirs too: nothing of those was erased")


def export(
    name: Name,
    by: By = "customer_id",
    out: Annotated[str, typer.Option(metavar="FILE", help="The file; - is stdout.")] = "-",
) -> None:
    """Write all that is stored of a customer as JSON: licences, devices, events, uses, anomalies.

    The file is readable by you only: it holds licence keys, names and addresses.
    """
    from cli.customer_commands import export as write

    done = _with_workbench("customers-export", lambda bench: write(bench, name, by, out))
    if out != "-":
        say(f"exported {done.licenses} licences, {done.events} events, {done.usage} uses")


def _with_workbench(job: str, work: Callable[[Workbench], Coroutine[Any, Any, T]]) -> T:
    from cli.core import workbench
    from cli.database import opened_for_command, settings_for_command

    settings = settings_for_command()

    async def run() -> T:
        async with workbench(settings, database, job) as bench:
            return await work(bench)

    with opened_for_command(settings) as database:
        return asyncio.run(run())
