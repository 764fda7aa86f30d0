"""The long run: `python -m tests.faults.soak [--cycles N] [--commands N] [--seed S] [--only NAME]`.

In each cycle the load goes on while something happens to a part; then all must be well again, and the checker reads
what is new. At the end a new checker reads everything. What happens, and what is ordered, follow from the seed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import uvloop

from tests.support.answers import Answers
from tests.support.checker import PROJECTIONS, Checker, Report, check
from tests.support.load import Load
from tests.support.mishaps import Mishap, deal, mishaps
from tests.support.plant import Plant
from tests.support.queue_consumer import count_of
from tests.support.workers import are_at_the_end

CYCLES = 200
COMMANDS = 1_000_000
LONGEST_FREEZE_SECONDS = 8.0
"""Longer than a lease, so that it is lost now and then."""
SETTLE_SECONDS = 120.0
QUIET_SHARE = 0.04
"""Of a cycle's commands, those that are given once all is well again: none may be refused for want of a server."""
REPLAYS = 20
CALLERS = (24, 96)
"""Where a cycle has few commands, and many."""
MANY = 1000
POLL_SECONDS = 0.1
SIGNED_WITHIN = 5
"""After how many cycles the notary must have signed what was there, whatever happened in them."""

GROWTH = 1.3
GROWTH_KB = 20_000
"""What a part's memory may be in the last third of a run, beside that in the middle third."""


class Fallen(AssertionError):
    """Something that must hold does not. The message says what, and in which cycle."""


@dataclass
class Figures:
    """What a run has come to."""

    seed: int
    cycles: int = 0
    commands: int = 0
    uses: int = 0
    heartbeats: int = 0
    asked_again: int = 0
    replays: int = 0
    longest_ready: float = 0.0
    longest_settled: float = 0.0
    seconds: float = 0.0
    happened: Counter[str] = field(default_factory=Counter)
    kills: dict[str, int] = field(default_factory=dict)
    statuses: dict[int | None, int] = field(default_factory=dict)
    memory: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    errors: Counter[str] = field(default_factory=Counter)
    report: Report = field(default_factory=Report)

    def growth(self) -> dict[str, tuple[int, int, int]]:
        """Return for each part its kilobytes: in the first cycle, and typical of the middle and the last third."""
        found = {}
        for name, sizes in self.memory.items():
            third = max(1, len(sizes) // 3)
            middle, last = sizes[third : 2 * third] or sizes, sizes[-third:]
            found[name] = (sizes[0], int(statistics.median(middle)), int(statistics.median(last)))
        return found

    def grown(self) -> list[str]:
        """Return the parts whose memory is not flat."""
        return [name for name, (_, middle, last) in self.growth().items() if last > middle * GROWTH + GROWTH_KB]

    def __str__(self) -> str:
        answers = [f"{status or 'lost'} {number}" for status, number in sorted(self.statuses.items(), key=str)]
        lines = [
            f"seed {self.seed}: {self.cycles} cycles in {self.seconds:.0f} s",
            f"{self.commands} commands, {self.uses} validations, {self.heartbeats} heartbeats",
            f"answers: {', '.join(answers)}",
            f"{self.asked_again} asked again by their keys, {self.replays} answers compared with the first",
            f"at the end: {self.report.figures}",
            f"killed or stopped: {', '.join(f'{name} {n}' for name, n in sorted(self.kills.items()))}",
            f"what happened: {', '.join(f'{name} {n}' for name, n in sorted(self.happened.items()))}",
            f"longest until ready: {self.longest_ready:.1f} s, until nothing lagged: {self.longest_settled:.1f} s",
            f"errors logged: {', '.join(f'{text} {n}' for text, n in self.errors.most_common(10)) or 'none'}",
            "own memory in MB, first cycle / middle third / last third:",
            *(
                f"  {name:10} {first / 1000:6.0f} {middle / 1000:6.0f} {last / 1000:6.0f}"
                for name, (first, middle, last) in self.growth().items()
            ),
        ]
        return "\n".join(lines)


class Soak:
    """A run over a plant. `say` is told a line a cycle."""

    def __init__(
        self, plant: Plant, seed: int, say: Callable[[str], None], longest_freeze: float, only: str = ""
    ) -> None:
        self.figures = Figures(seed)
        self._plant = plant
        self._say = say
        self._chance = random.Random(f"{seed}/mishaps")
        possible = [one for one in mishaps(plant.apis, longest_freeze) if only in one.name]
        self._mishaps = deal(possible, self._chance)
        self._answers = Answers("soak-")
        self._answers.is_complete = True
        self._answers.is_down = False
        self._ends_before: deque[int] = deque(maxlen=SIGNED_WITHIN)
        self._checker = Checker(plant.database, queues=[plant.read_by()], signed=plant.signed())

    async def run(self, cycles: int, commands: int) -> None:
        """Run all cycles. Raises Fallen."""
        begun = time.monotonic()
        servers = {name: self._plant.base(name) for name in self._plant.apis}
        async with Load(servers, self._answers, str(self.figures.seed)) as load:
            for number in range(1, cycles + 1):
                share = commands * number // cycles - commands * (number - 1) // cycles
                await self._cycle(load, number, cycles, share)
        await self._last()
        self.figures.kills = self._plant.kills
        self.figures.errors = self._plant.errors()
        self.figures.statuses = self._answers.statuses
        self.figures.seconds = time.monotonic() - begun

    async def _cycle(self, load: Load, number: int, cycles: int, commands: int) -> None:
        quiet = max(10, int(commands * QUIET_SHARE))
        mishap = next(self._mishaps)
        before = load.done
        callers = CALLERS[commands >= MANY]
        running = asyncio.create_task(load.run(commands - quiet, f"{number}", callers))
        try:
            await self._until_begun(load, running, before + (commands - quiet) * self._chance.uniform(0.1, 0.5))
            # What befalls a worker or the broker is no reason for a 503.
            self._answers.is_down = bool({"postgres", *self._plant.apis} & set(mishap.hits))
            await asyncio.to_thread(mishap.happen, self._plant, self._chance)
            ready = await self._until_ready(number, mishap)
            await running
        finally:
            running.cancel()
        if mishap.is_kill:
            for name in set(mishap.hits) & set(self._plant.apis):
                self._answers.forgive(name)
        self.figures.asked_again += await self._resolve(load, number, mishap)
        marks = await asyncio.to_thread(self._ends)
        self._answers.is_down = False
        await load.run(quiet, f"{number}/quiet")
        await self._answers.resolve_doubts(load.client(self._plant.apis[0]))
        self.figures.replays += await self._answers.replay(load.client(self._plant.apis[-1]), self._chance, REPLAYS)
        settled = await self._until_settled(number, mishap, marks)
        report = await asyncio.to_thread(
            self._checker.check, self._answers, consumers=("relay",), patience=SETTLE_SECONDS
        )
        if not report.holds:
            raise Fallen(f"cycle {number}, {mishap.name}:\n{report}\nerrors logged: {self._plant.errors()}")
        if ended := self._plant.ended():
            logs = "\n".join(f"{name}: {self._plant.log(name)}" for name in ended)
            raise Fallen(f"cycle {number}, {mishap.name}: {ended} ended\n{logs}")
        self._answers.settle()
        self._note(load, mishap, ready, settled, report)
        self._say(
            f"{number}/{cycles} {mishap.name}: {load.done} commands, {report.figures['events']} events,"
            f" ready after {ready:.1f} s, settled after {settled:.1f} s more"
        )

    async def _resolve(self, load: Load, number: int, mishap: Mishap) -> int:
        try:
            return await load.resolve(self._plant.apis[0])
        except TimeoutError as error:
            shown = list(self._answers.open)[:5]
            raise Fallen(f"cycle {number}, {mishap.name}: asked again, and no answer to {shown}") from error

    async def _until_begun(self, load: Load, running: asyncio.Task[None], commands: float) -> None:
        while load.done < commands and not running.done():
            await asyncio.wait({running}, timeout=0.005)

    async def _until_ready(self, number: int, mishap: Mishap) -> float:
        begun = time.monotonic()
        for name in self._plant.apis:
            try:
                await asyncio.to_thread(self._plant.wait_ready, name)
            except AssertionError as error:
                raise Fallen(f"cycle {number}, {mishap.name}: {error}") from error
        return time.monotonic() - begun

    def _ends(self) -> dict[str, int]:
        with self._plant.database.connect() as connection:
            row = connection.execute(
                "SELECT (SELECT coalesce(max(notification_id), 0) FROM licensing_events) AS event_position,"
                " (SELECT coalesce(max(id), 0) FROM usage) AS usage_position"
            ).fetchone()
        assert row is not None
        return dict(row)

    async def _until_settled(self, number: int, mishap: Mishap, marks: dict[str, int]) -> float:
        """Wait until all have come to the logs' ends; detection up to where the quiet commands began.

        It keeps a row back for twenty seconds where the other log has no later one yet.
        """
        begun = time.monotonic()

        def settled() -> bool:
            return (
                are_at_the_end(self._plant.database, "relay", *PROJECTIONS)
                and self._has_passed("anomaly", marks)
                and self._is_read()
                and (len(self._ends_before) < SIGNED_WITHIN or self._is_signed(self._ends_before[0]))
            )

        while not await asyncio.to_thread(settled):
            if time.monotonic() - begun > SETTLE_SECONDS:
                logs = {name: self._plant.log(name)[-500:] for name in self._plant.parts}
                raise Fallen(f"cycle {number}, {mishap.name}: it lags after {SETTLE_SECONDS} s: {logs}")
            await asyncio.sleep(POLL_SECONDS)
        self._ends_before.append(marks["event_position"])
        return time.monotonic() - begun

    def _is_signed(self, position: int) -> bool:
        with self._plant.database.connect() as connection:
            row = connection.execute("SELECT max(position) AS signed FROM audit_checkpoints").fetchone()
        return row is not None and (row["signed"] or 0) >= position

    def _has_passed(self, consumer: str, marks: dict[str, int]) -> bool:
        with self._plant.database.connect() as connection:
            row = connection.execute("SELECT * FROM consumers WHERE consumer = %s", (consumer,)).fetchone()
        return row is not None and all(row[log] >= position for log, position in marks.items())

    def _is_read(self) -> bool:
        """Tell whether the queue's reader has all rows of both logs."""
        with self._plant.database.connect() as connection:
            row = connection.execute(
                "SELECT (SELECT count(*) FROM licensing_events) + (SELECT count(*) FROM usage) AS rows"
            ).fetchone()
        assert row is not None
        rows: int = row["rows"]
        return count_of(self._plant.read_by()) >= rows

    def _note(self, load: Load, mishap: Mishap, ready: float, settled: float, report: Report) -> None:
        figures = self.figures
        figures.cycles += 1
        figures.commands, figures.uses, figures.heartbeats = load.done, load.uses, load.heartbeats
        figures.longest_ready = max(figures.longest_ready, ready)
        figures.longest_settled = max(figures.longest_settled, settled)
        figures.happened[mishap.name] += 1
        figures.report = report
        for name, size in self._plant.memory().items():
            figures.memory[name].append(size)

    async def _last(self) -> None:
        """Read everything anew, once the notary and detection have come to the end too."""
        end = (await asyncio.to_thread(self._ends))["event_position"]
        deadline = time.monotonic() + SETTLE_SECONDS
        while not await asyncio.to_thread(self._is_signed, end):
            if time.monotonic() > deadline:
                raise Fallen(f"at the end nothing is signed for {SETTLE_SECONDS} s: {self._plant.log('notary')}")
            await asyncio.sleep(POLL_SECONDS)
        await asyncio.to_thread(self._plant.verify)
        report = await asyncio.to_thread(
            check,
            self._plant.database,
            self._answers,
            queues=[self._plant.read_by()],
            signed=self._plant.signed(),
            consumers=("relay", "anomaly"),
            patience=SETTLE_SECONDS,
        )
        self.figures.report = report
        if not report.holds:
            raise Fallen(f"at the end, where everything was read anew:\n{report}")


def soak(  # noqa: PLR0913, PLR0917 - one argument an option
    cycles: int,
    commands: int,
    seed: int,
    say: Callable[[str], None],
    longest_freeze: float = LONGEST_FREEZE_SECONDS,
    only: str = "",
) -> Figures:
    """Run it on a plant of its own, and return its figures. `only` is a part of the name of what happens.

    Raises Fallen.
    """
    with Plant() as plant:
        run = Soak(plant, seed, say, longest_freeze, only)
        uvloop.run(run.run(cycles, commands))
        return run.figures


def main() -> None:
    """Run it as the command line says; the exit code is 1 where something does not hold."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cycles", type=int, default=CYCLES)
    options.add_argument("--commands", type=int, default=COMMANDS, help="over all cycles")
    options.add_argument("--seed", type=int, default=None, help="of a run that shall be made again")
    options.add_argument("--only", default="", help="what happens has this in its name, such as 'kill relay'")
    given = options.parse_args()
    seed = int.from_bytes(os.urandom(4)) if given.seed is None else given.seed
    again = f"python -m tests.faults.soak --cycles {given.cycles} --commands {given.commands} --seed {seed}"
    again += f" --only '{given.only}'" if given.only else ""
    _say(f"to run this again: {again}")
    try:
        figures = soak(given.cycles, given.commands, seed, _say, only=given.only)
    except Fallen as fallen:
        _say(f"FALLEN in {fallen}\nto run this again: {again}")
        sys.exit(1)
    _say(str(figures))
    if grown := figures.grown():
        _say(f"FALLEN: the memory of {', '.join(grown)} is not flat\nto run this again: {again}")
        sys.exit(1)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
