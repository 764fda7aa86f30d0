"""All measures by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bench.figures import Result
from bench.lab import Lab
from bench.measures import (
    activate,
    anomalies,
    growth_events,
    growth_licences,
    heartbeat,
    listing,
    memory,
    notary,
    processes,
    rebuild,
    relay,
    start,
    token,
    validate,
    validate_cold,
)


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
    "processes": Measure("activate by two API processes, against one", processes.measure),
    "list": Measure("an administrator's list, its last page against its first", listing.measure),
    "growth-licences": Measure("validate among many licences, against few", growth_licences.measure),
    "growth-events": Measure("activate on long histories, against new licences", growth_events.measure),
    "rebuild": Measure("making views anew, against reading the logs alone", rebuild.measure),
    "memory": Measure("memory with many verdicts cached", memory.measure),
    "start": Measure("seconds until ready, with very many licences", start.measure),
    "relay": Measure("publishing the usage log, against aio-pika alone", relay.measure),
    "notary": Measure("activate with a notary beside it, against without; events signed a second", notary.measure),
    "proofs": Measure("receipts and proofs of a long log", notary.measure_proofs),
    "anomalies": Measure("the worker that looks for abuse, stored rows and live ones", anomalies.measure),
}
