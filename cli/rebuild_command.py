"""`lizenzserver rebuild` and `check`: a projection made anew from the logs, put in its place or compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from cli.errors import Failure
from cli.output import AsJson, progress, say, write_json, write_table
from cli.teaching import examples

if TYPE_CHECKING:
    from collections.abc import Callable

    from projections.rebuild import Progress, Rebuild

Name = Annotated[str, typer.Argument(help="The projection: usage, devices-seen, seats or licenses.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(cls=examples("lizenzserver rebuild usage\nlizenzserver rebuild licenses --afresh"))(rebuild)
    app.command(cls=examples("lizenzserver check usage\nlizenzserver check licenses --json"))(check)


def rebuild(
    name: Name,
    afresh: Annotated[bool, typer.Option("--afresh", help="Forget a rebuild that was ended before.")] = False,
) -> None:
    """Make a projection's tables anew from the logs, and put them in the place of the old ones at once.

    The old ones are served, and kept up to date, until then. A rebuild that was ended goes on where it was. It
    connects by DATABASE_OWNER_URL.
    """
    with _opened(name) as making, _bar(f"Rebuilding {name}") as moved:
        if making.begin(afresh=afresh):
            say("a rebuild that was ended goes on")
        making.fold(moved)
        making.swap()
    say(f"{name} is rebuilt")


def check(name: Name, as_json: AsJson = False) -> None:
    """Fold a projection anew from the logs, and count the rows that differ from what is served.

    Leaves with 1 where a row differs. It connects by DATABASE_OWNER_URL.
    """
    with _opened(name) as making, _bar(f"Checking {name}") as moved:
        making.begin(afresh=True)
        try:
            differing = making.compare(moved)
        finally:
            making.drop()
    if as_json:
        write_json({"projection": name, "differing_rows": differing})
    else:
        write_table(["table", "differing rows"], [[table, count] for table, count in differing.items()])
    if any(differing.values()):
        raise Failure(f"{name} differs from the logs: `lizenzserver rebuild {name}` makes it anew")


@contextmanager
def _opened(name: str) -> Iterator[Rebuild]:
    from cli.core import compose_core
    from cli.database import opened_for_command, settings_for_command
    from commands.event_mapper import decoder
    from commands.recorder import EVENTS_LOCK
    from projections.inline_views import InlineViews
    from projections.projection import Projection
    from projections.reading import ReadAhead
    from projections.rebuild import Rebuild
    from projections.registry import ASYNCHRONOUS

    settings = settings_for_command()
    asynchronous = next((known for known in ASYNCHRONOUS if known.name == name), None)
    if asynchronous is None and name != "licenses":
        raise Failure(f"there is no projection {name}: choose from licenses, {', '.join(x.name for x in ASYNCHRONOUS)}")
    with (
        opened_for_command(settings) as database,
        database.connect_owner() as connection,
        database.connect_worker("read-ahead") as reading,
        ReadAhead(reading, decoder()) as read_events,
    ):
        if asynchronous is not None:
            yield Rebuild(connection, asynchronous, decoder(), read_events=read_events)
            return
        core = compose_core(settings, database)
        try:
            views = InlineViews(core.emails)
            inline = Projection(name="licenses", tables=InlineViews.TABLES, apply_events=views.apply)
            yield Rebuild(connection, inline, decoder(), EVENTS_LOCK, read_events)
        finally:
            core.application.close()


@contextmanager
def _bar(description: str) -> Iterator[Callable[[Progress], None]]:
    """Show how far it has come: on a terminal as a bar, elsewhere as a line every ten percent."""
    with progress(description, 100) as advance:
        shown = 0

        def moved(now: Progress) -> None:
            nonlocal shown
            percent = min(100, now.done * 100 // now.total) if now.total else 100
            if percent > shown:
                advance(percent - shown)
                shown = percent

        yield moved
