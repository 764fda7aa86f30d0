"""`notary`, `proofs`: what signing the event log takes from activations, how fast it is, and proofs of a long log."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from random import Random
from statistics import quantiles
from typing import Any

from bench import bodies
from bench.figures import Comparison, Goal, Result
from bench.fill import activation_id
from bench.lab import Lab
from bench.load import WrongAnswers
from bench.servers import Server, ServerFailed
from bench.sides import Side, by_rate, load_note, measured
from domain.audit.tiles import WIDTH
from infra.postgres import Database

CONNECTIONS = 128
ALONE, BESIDE = "api", "api, notary running"
EVENTS_A_SECOND = 2_000
PROOF_MS = 20
PROOFS = 500
"""Of each kind, in each round, one after the other."""
LONGEST_SECONDS = 1_800

_STATE = """
    SELECT (SELECT count(*) FROM licensing_events) AS events,
        (SELECT count(*) FROM audit_tiles WHERE level = 0) AS tiles,
        (SELECT coalesce(max(size), 0) FROM audit_checkpoints) AS signed
"""


def measure(lab: Lab) -> Result:
    """Compare activations with and without a notary beside them, and report how many events it signs a second."""
    licences = lab.sizes.licences
    requests = bodies.new_activation(lab, licences)
    with ExitStack() as stack:
        plain, watched = (lab.filled_database(licences) for _ in range(2))
        alone, beside = stack.enter_context(lab.api(plain)), stack.enter_context(lab.api(watched))
        _forget(lab)
        notary = stack.enter_context(lab.worker(watched, "notary"))
        _signed(watched)
        for process in (alone, beside, notary):
            process.pause()
        sides = {
            ALONE: Side(alone, requests, CONNECTIONS, only_now=True),
            BESIDE: Side(beside, requests, CONNECTIONS, [notary], only_now=True),
        }
        served = measured(lab, sides)
        notary.resume()
        _signed(watched)
    result = Result("notary")
    result.comparisons.append(by_rate("activations", served, BESIDE, ALONE, Goal(0.95)))
    rates = lab.alternate({"signing": lambda: _signing(lab)})["signing"]
    result.comparisons.append(
        Comparison(name="events put into the tree", unit="/s", ours=tuple(rates), goal=Goal(EVENTS_A_SECOND))
    )
    result.notes.append(load_note(served))
    return result


def measure_proofs(lab: Lab) -> Result:
    """Report how long proofs and receipts take over a long log, asked for one after the other over HTTP."""
    licences = lab.sizes.many
    database = lab.filled_database(licences)
    _forget(lab)
    with lab.worker(database, "notary"):
        size = _signed(database)
    with lab.api(database, TRUSTED_PROXIES="127.0.0.1") as server:
        asking = _Asking(lab, server, licences, size)
        sides = {"receipts": asking.receipts, "inclusion": asking.inclusion, "consistency": asking.consistency}
        found = lab.alternate(sides)
    result = Result("proofs")
    for name, rounds in found.items():
        result.comparisons += [
            Comparison(
                name=f"{name}, p{percent}, {size:,} events",
                unit="ms",
                ours=tuple(one[percent] for one in rounds),
                goal=Goal(PROOF_MS, is_limit=True) if percent > 50 else None,  # noqa: PLR2004 - the median
            )
            for percent in (50, 99)
        ]
    return result


def _forget(lab: Lab) -> None:
    """Take away what a notary kept of another database: it would sign nothing that does not extend it."""
    (lab.data_dir / "audit" / "checkpoint").unlink(missing_ok=True)


def _signed(database: Database) -> int:
    """Return how many events there are, once all of them are signed."""
    return _once(database, lambda row: row["events"] == row["signed"] > 0)


def _in_tree(database: Database) -> int:
    """Return how many events there are, once all whole tiles are there: the signature waits for its time."""
    return _once(database, lambda row: row["tiles"] == row["events"] // WIDTH > 0)


def _once(database: Database, is_done: Callable[[dict[str, int]], bool]) -> int:
    deadline = time.monotonic() + LONGEST_SECONDS
    with database.connect() as connection:
        while time.monotonic() < deadline:
            row = connection.execute(_STATE).fetchone()
            if row is not None and is_done(row):
                return int(row["events"])
            time.sleep(0.05)
    raise ServerFailed("the notary does not sign all that there is")


def _signing(lab: Lab) -> float:
    """Have a notary that is new to a log put it into its tree; return events a second, its start included."""
    database = lab.filled_database(lab.sizes.licences)
    _forget(lab)
    began = time.monotonic()
    with lab.worker(database, "notary"):
        events = _in_tree(database)
        took = time.monotonic() - began
    lab.drop(database)
    return round(events / took, 1)


class _Asking:
    """Asks a server for proofs; each turn returns milliseconds by percentile."""

    def __init__(self, lab: Lab, server: Server, licences: int, size: int) -> None:
        self._lab = lab
        self._server = server
        self._licences = licences
        self._size = size
        self._random = Random(1)  # noqa: S311 - no secret

    def receipts(self) -> dict[int, float]:
        return self._ask(lambda: f"receipts/{activation_id(self._random.randrange(self._licences))}")

    def inclusion(self) -> dict[int, float]:
        return self._ask(lambda: f"proof/inclusion?event_id={activation_id(self._random.randrange(self._licences))}")

    def consistency(self) -> dict[int, float]:
        return self._ask(lambda: f"proof/consistency?from_size={self._random.randrange(1, self._size)}")

    def _ask(self, path: Any) -> dict[int, float]:
        found: list[float] = []
        with closing(HTTPConnection("127.0.0.1", self._server.port, timeout=60)) as connection:
            for number in range(PROOFS):
                # Each from an address of its own: proofs are counted by address.
                address = f"10.{number >> 8}.{number & 255}.{self._random.randrange(256)}"
                headers = {"X-Admin-API-Key": self._lab.admin_key, "X-Forwarded-For": address}
                began = time.perf_counter()
                connection.request("GET", f"/api/v1/audit/{path()}", headers=headers)
                response = connection.getresponse()
                content = response.read()
                found.append((time.perf_counter() - began) * 1000)
                if response.status != 200 or not json.loads(content)["proof"]:  # noqa: PLR2004
                    raise WrongAnswers(f"{response.status} {content[:300]!r}")
        percents = quantiles(found, n=100)
        return {percent: round(percents[percent - 1], 3) for percent in (50, 99)}
