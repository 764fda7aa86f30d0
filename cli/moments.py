"""Moments as people write them on the command line: positions, times, dates."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer

from domain.history.past import Moment

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_LARGEST_POSITION = 2**63 - 1
_MOST_DIGITS = len(str(_LARGEST_POSITION))


def time_of(text: str, option: str) -> datetime:
    """Read a time; a date is its first moment in UTC. Raises typer.BadParameter."""
    given = f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text
    try:
        moment: datetime = msgspec.convert(given, Annotated[datetime, msgspec.Meta(tz=True)])
        return moment.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        wanted = "a time such as 2026-03-01T12:00:00Z, or a date such as 2026-03-01"
        raise typer.BadParameter(f"{text!r} is not {wanted}", param_hint=option) from None


def moment_of(text: str, option: str) -> Moment:
    """Read a position or a time. Raises typer.BadParameter."""
    if not (text.isascii() and text.isdecimal()):
        return Moment(time=time_of(text, option))
    if len(text) > _MOST_DIGITS or int(text) > _LARGEST_POSITION:
        raise typer.BadParameter(f"no log has the position {text}", param_hint=option)
    return Moment(position=int(text))
