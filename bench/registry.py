"""All measures by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bench.figures import Result
from bench.lab import Lab
from bench.measures import activate, heartbeat, token, validate, validate_cold


class Measure(NamedTuple):
    """A measure: what it answers, and how it is run."""

    about: str
    run: Callable[[Lab], Result]


MEASURES: dict[str, Measure] = {
    "validate": Measure("validate from memory, against an empty handler and a CRUD server", validate.measure),
    "validate-cold": Measure("validate of random licences, against one indexed SELECT", validate_cold.measure),
    "activate": Measure("activate under load, against a CRUD server and single inserts", activate.measure),
    "activate-one": Measure("activate by one caller, against load, decide, save", activate.measure_one_caller),
    "heartbeat": Measure("heartbeat, against an empty handler", heartbeat.measure),
    "token": Measure("token, against an empty handler", token.measure),
}
