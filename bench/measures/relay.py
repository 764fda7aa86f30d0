"""`relay`: rows of the usage log into RabbitMQ, confirmed, against publishing as many messages with aio-pika alone."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import NamedTuple

from bench.fan_out import relay_rate, store_usage
from bench.figures import Comparison, Result
from bench.lab import Lab
from bench.load import MissingTool
from bench.servers import ROOT
from infra.migrations import migrate
from infra.postgres import Database
from tests.support.rabbit import Rabbit, VirtualHost
from tests.support.workers import identify

OURS, ALONE = "relay", "aio-pika alone"
ABOUT_BYTES = 600
"""Of a message about a validation, should none be there to look at."""


class Rate(NamedTuple):
    """Messages a second; only the baseline consumes."""

    published: float
    consumed: float = 0.0


def measure(lab: Lab) -> Result:
    """Compare messages a second; our relay reads them from PostgreSQL and makes them first."""
    filled = lab.new_database()
    migrate(filled)
    identify(filled)
    store_usage(filled, lab.sizes.log_rows)
    with _rabbit() as rabbit:
        turns = _Turns(lab, rabbit, filled)
        found = lab.alternate({OURS: turns.ours, ALONE: turns.alone})
    result = Result("relay")
    result.comparisons.append(
        Comparison(
            name="messages into two quorum queues",
            unit="/s",
            ours=tuple(one.published for one in found[OURS]),
            baseline=ALONE,
            base=tuple(one.published for one in found[ALONE]),
        )
    )
    consumed = sorted(one.consumed for one in found[ALONE])
    result.notes.append(
        f"{lab.sizes.log_rows:,} messages of {turns.size} bytes; one consumer with aio-pika alone takes"
        f" {consumed[len(consumed) // 2]:,.0f} of them a second"
    )
    return result


def _rabbit() -> Rabbit:
    try:
        return Rabbit()
    except RuntimeError as error:
        raise MissingTool(str(error)) from error


class _Turns:
    """Each turn has a virtual host of its own, whose queues are empty, and the relay a log that is new to it."""

    def __init__(self, lab: Lab, rabbit: Rabbit, filled: Database) -> None:
        self._lab = lab
        self._rabbit = rabbit
        self._filled = filled
        self.size = ABOUT_BYTES

    def ours(self) -> Rate:
        database, host = self._lab.copy(self._filled), self._rabbit.new_host()
        rate = asyncio.run(relay_rate(database, self._lab.folder, host, self._lab.sizes.log_rows))
        self._lab.drop(database)
        self.size = _message_bytes(host) or self.size
        return Rate(rate)

    def alone(self) -> Rate:
        arguments = [self._rabbit.new_host().url, str(self._lab.sizes.log_rows), str(self.size)]
        command = [sys.executable, "-m", "bench.baselines.publish_consume", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return Rate(**json.loads(done.stdout))


def _message_bytes(host: VirtualHost) -> int:
    with host.channel() as channel:
        _, _, body = channel.basic_get("one", auto_ack=True)
    return len(body or b"")
