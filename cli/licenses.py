"""`lizenzserver licenses`: issue, look at, bring in and take out licences."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from uuid import UUID

import typer

from cli.output import AsJson, say, write_fields, write_json, write_table
from cli.teaching import examples

if TYPE_CHECKING:
    from cli.core import Workbench

T = TypeVar("T")
_LONGEST_REASON = 1000
Customer = Annotated[str | None, typer.Option("--customer", help="Customer id, as your own books have it.")]
EmailOption = Annotated[str | None, typer.Option("--email", help="E-mail address; the second dialect needs one.")]
Product = Annotated[str | None, typer.Option("--product")]
Edition = Annotated[str | None, typer.Option("--edition")]


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Licences. All of these work while the server runs.")
    group.command(cls=examples(_CREATE))(create)
    group.command("list", cls=examples(_LIST))(list_licenses)
    group.command(cls=examples("lizenzserver licenses show LIC-2345ABCDEFGH\nlizenzserver licenses show ID --json"))(
        show
    )
    group.command(cls=examples(_CORRECT))(correct)
    group.command("import", cls=examples(_IMPORT))(import_licenses)
    group.command("export", cls=examples(_EXPORT))(export_licenses)
    app.add_typer(group, name="licenses")


_CREATE = """
lizenzserver licenses create --customer acme --max-devices 3
lizenzserver licenses create --email ann@example.com --product Planwerk --edition pro --expires-in-days 365
lizenzserver licenses create --customer acme --feature export --feature api --json
"""
_LIST = """
lizenzserver licenses list --customer acme
lizenzserver licenses list --inactive --limit 1000 --json
"""
_CORRECT = """
lizenzserver licenses correct LIC-2345ABCDEFGH 7c9e6679-7425-40de-944b-e07fc1f90ae7 --reason "wrong customer"
"""
_IMPORT = """
lizenzserver licenses import licences.csv
lizenzserver licenses export - | ssh other-host lizenzserver licenses import -

A file begins with a header line and may look like this:
  customer_id,email,product,max_devices,expires_at,features,license_key
  acme,ann@example.com,Planwerk,3,2027-12-31,export;api,OLD-KEY-0001
"""
_EXPORT = """
lizenzserver licenses export licences.csv
lizenzserver licenses export - | head
"""


def create(  # noqa: PLR0913 - one argument an option
    *,
    customer: Customer = None,
    email: EmailOption = None,
    product: Product = None,
    edition: Edition = None,
    max_devices: Annotated[int, typer.Option(min=1, max=100_000, help="Seats.")] = 1,
    expires_in_days: Annotated[int | None, typer.Option(min=1, max=36_500, help="Default: perpetual.")] = None,
    feature: Annotated[list[str] | None, typer.Option(help="An entitlement; may be repeated.")] = None,
    test: Annotated[bool, typer.Option("--test", help="A licence for testing.")] = False,
    floating: Annotated[bool, typer.Option("--floating", help="Its seats are meant to be shared.")] = False,
    metadata: Annotated[str, typer.Option(help="A JSON object of your own.")] = "{}",
    key: Annotated[str | None, typer.Option(help="A key from elsewhere; default: a new one.")] = None,
    key_format: Annotated[
        Literal["prefixed", "grouped"], typer.Option(help="LIC-XXXXXXXXXXXX or XXXX-XXXX-XXXX.")
    ] = "prefixed",
    as_json: AsJson = False,
) -> None:
    """Issue a licence and print it with its key."""
    from cli.license_commands import create as issue

    given = {
        "customer_id": customer,
        "email": email,
        "product": product,
        "edition": edition,
        "features": feature or [],
        "is_test": test,
    }
    issued = _with_workbench(
        "licenses-create",
        lambda bench: issue(
            bench,
            {**given, "max_devices": max_devices, "floating": floating, "expires_in_days": expires_in_days},
            metadata=metadata,
            key=key,
            key_format=key_format,
        ),
    )
    write_json(issued) if as_json else write_fields(issued)


def list_licenses(  # noqa: PLR0913 - one argument an option
    *,
    customer: Customer = None,
    email: EmailOption = None,
    product: Product = None,
    edition: Edition = None,
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="Default: both.")] = None,
    test: Annotated[bool | None, typer.Option("--test/--no-test", help="Default: both.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many at most.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List licences, newest first."""
    from cli.license_commands import listed

    fields = {"product": product, "edition": edition, "is_active": active, "is_test": test}
    found, total = _with_workbench(
        "licenses-list", lambda bench: listed(bench, customer=customer, email=email, limit=limit, **fields)
    )
    if as_json:
        write_json({"licenses": found, "total": total})
        return
    columns = ["license_key", "customer_id", "product", "edition", "seats", "expires_at", "state"]
    write_table(columns, [_line(one) for one in found])
    if len(found) < total:
        say(f"{len(found)} of {total}; --limit shows more")


def _line(license: dict[str, Any]) -> list[object]:
    names = ("license_key", "customer_id", "product", "edition")
    seats = f"{license['current_devices']}/{license['max_devices']}"
    expires_at: datetime | None = license["expires_at"]
    state = "active" if license["is_active"] else "inactive"
    return [*(license[name] for name in names), seats, expires_at, f"{state} test" if license["is_test"] else state]


def show(
    key_or_id: Annotated[str, typer.Argument(help="The licence key, or the licence's id.")],
    as_json: AsJson = False,
) -> None:
    """Show a licence and its devices."""
    from cli.license_commands import shown_in_full

    license = _with_workbench("licenses-show", lambda bench: shown_in_full(bench, key_or_id))
    if as_json:
        write_json(license)
        return
    devices = license.pop("devices")
    write_fields(license)
    if devices:
        names = ("hardware_id", "device_name", "is_active", "activated_at", "deactivated_at", "last_seen_at")
        typer.echo("\nDevices:")
        write_table(names, [[device[name] for name in names] for device in devices])


def correct(
    key_or_id: Annotated[str, typer.Argument(help="The licence key, or the licence's id.")],
    event_id: Annotated[UUID, typer.Argument(help="The event that was a mistake; `audit replay` shows ids.")],
    *,
    reason: Annotated[str, typer.Option(help="Why; it is kept sealed.")],
    as_json: AsJson = False,
) -> None:
    """Undo a revocation or a transfer that was a mistake.

    Nothing is edited: the opposite is recorded, and names the event. It is refused where what came later stands in the
    way.
    """
    from cli.correct import correct as undo

    if not 0 < len(reason.strip()) <= _LONGEST_REASON:
        raise typer.BadParameter(f"a reason has 1 to {_LONGEST_REASON} characters", param_hint="--reason")
    done = _with_workbench("licenses-correct", lambda bench: undo(bench, key_or_id, event_id, reason.strip()))
    write_json(done) if as_json else write_fields(done)


def import_licenses(
    file: Annotated[str, typer.Argument(metavar="CSV", help="The file; - is stdin.")],
    as_json: AsJson = False,
) -> None:
    """Issue the licences of a CSV file.

    Columns, in any order, all but one of the first two optional: customer_id, email, product, edition, max_devices,
    expires_at (a time, or a date: the end of that day in UTC), features (separated by ;), is_test, floating, metadata
    (JSON), license_key, is_active. A licence that has a license_key keeps it, whatever it looks like; the others get
    new ones. What an export adds (license_id, created_at, current_devices) is ignored: devices activate again.

    All rows are checked before anything is written. Rows whose key there is already are skipped, and so is a file that
    was imported before: a repeat is safe.
    """
    from cli.import_csv import import_rows, read_file

    rows = read_file(file)
    done = _with_workbench("licenses-import", lambda bench: import_rows(bench, rows))
    if as_json:
        write_json({"imported": len(done.licenses), "skipped": done.skipped, "licenses": done.licenses})
    else:
        say(f"imported {len(done.licenses)}, skipped {done.skipped} that there were already")


def export_licenses(
    file: Annotated[str, typer.Argument(metavar="CSV", help="The file; - is stdout.")],
    as_json: AsJson = False,
) -> None:
    """Write all licences to a CSV file, keys included: it is readable by you only.

    Cells that a spreadsheet would run as a formula begin with an apostrophe; an import takes it off again.
    """
    from cli.export_csv import export

    if as_json and file == "-":
        raise typer.BadParameter("--json and - would both go to stdout")
    count = _with_workbench("licenses-export", lambda bench: export(bench, file))
    if as_json:
        write_json({"exported": count, "file": file})
    else:
        say(f"exported {count}")


def _with_workbench(job: str, work: Callable[[Workbench], Coroutine[Any, Any, T]]) -> T:
    from cli.core import workbench
    from cli.database import opened_for_command, settings_for_command

    settings = settings_for_command()

    async def run() -> T:
        async with workbench(settings, database, job) as bench:
            return await work(bench)

    with opened_for_command(settings) as database:
        return asyncio.run(run())
