"""`lizenzserver audit diff`: what changed between two positions."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.audit_replay_command import CustomerOption, LicenseOption
from cli.output import forget_stdout, progress, say, shown, working
from cli.teaching import examples

if TYPE_CHECKING:
    from cli.audit_diff import Difference
    from domain.history.past import Moment
    from infra.postgres import Database
    from infra.settings import Settings

_EXAMPLES = """
lizenzserver audit diff 4711 5000
lizenzserver audit diff 2026-03-01 2026-04-01 --customer acme
lizenzserver audit diff 2026-03-03T14:00:00Z 2026-03-03T14:10:00Z --license LIC-2345ABCDEFGH
lizenzserver audit diff 0 5000 --json | jq -c 'select(.changes != null) | [.license_id, (.changes | length)]'
"""


def register(group: typer.Typer) -> None:
    """Add the command to its group."""
    group.command("diff", cls=examples(_EXAMPLES))(diff)


def diff(
    before: Annotated[str, typer.Argument(metavar="POSITION|TIME", help="From after this on; 0: all.")],
    after: Annotated[str, typer.Argument(metavar="POSITION|TIME", help="Up to and including this.")],
    *,
    license: LicenseOption = None,
    customer: CustomerOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print lines of JSON, for programs.")] = False,
) -> None:
    """Show what is different: each licence that something happened to, from what it was to what it became.

    What went to and fro is no difference. Of API keys, anomalies, settings and customers, the events themselves are
    shown. Personal data is in it, as far as it was not erased.
    """
    from cli.database import opened_for_command, settings_for_command
    from cli.moments import moment_of

    if license is not None and customer is not None:
        raise typer.BadParameter("give a licence or a customer", param_hint="--customer")
    bounds = moment_of(before, "BEFORE"), moment_of(after, "AFTER")
    settings = settings_for_command()
    with opened_for_command(settings) as database:
        asyncio.run(_run(settings, database, bounds, license, customer, as_json=as_json))


async def _run(  # noqa: PLR0913 - one argument an option
    settings: Settings,
    database: Database,
    bounds: tuple[Moment, Moment],
    license: str | None,
    customer: str | None,
    *,
    as_json: bool,
) -> None:
    from cli.audit_diff import Differences, position_of
    from cli.audit_subjects import licenses_of
    from cli.core import workbench
    from cli.log_messages import reading

    async with workbench(settings, database, "audit-diff") as bench, reading(database, "audit-diff") as connection:
        with working("Looking for the positions"):
            first, last = [await position_of(connection, moment) for moment in bounds]
        if last < first:
            raise typer.BadParameter(f"position {last} comes before {first}", param_hint="AFTER")
        found = Differences(bench, connection, first, last, await licenses_of(bench, license, customer))
        with working("Counting"):
            total = await found.count()
        try:
            with progress("Comparing", total) as advance:
                async for differences in found.each():
                    for difference in differences:
                        _write(difference, as_json=as_json)
                    advance(1)
            sys.stdout.flush()
        except BrokenPipeError:
            forget_stdout()
    say(f"between positions {first} and {last}, something happened to {total}")


def _write(difference: Difference, *, as_json: bool) -> None:
    import msgspec

    if as_json:
        sys.stdout.write(msgspec.json.encode(difference).decode() + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(difference))


def _lines(difference: Difference) -> list[str]:
    from cli.audit_diff import OtherEvent

    if isinstance(difference, OtherEvent):
        text = f"{difference.type} of {difference.about} at position {difference.position} by {difference.actor}"
        return [shown(text)]
    events = f"{difference.events} event{'s' if difference.events != 1 else ''}"
    is_new = " (new)" if difference.from_ is None else ""
    head = f"licence {difference.license_id} of {_value(difference.customer_id)}{is_new}: {events},"
    lines = [f"{head} the last at position {difference.to.position}"]
    for change in difference.changes:
        of_device = "" if change.hardware_id is None else f"{shown(change.hardware_id)}: "
        lines.append(f"  {of_device}{change.field}: {_value(change.before)} -> {_value(change.after)}")
    return lines if len(lines) > 1 else [*lines, "  nothing is different in the end"]


def _value(value: Any) -> str:
    """Show a value in full: what differs by a second must not look the same."""
    import msgspec

    from api.past_answers import DAMAGED, TOMBSTONE

    if value == TOMBSTONE:
        return "erased"
    if value == DAMAGED:
        return "damaged"
    if isinstance(value, datetime | dict):
        return shown(msgspec.json.encode(value).decode().strip('"'))
    return shown(value)
