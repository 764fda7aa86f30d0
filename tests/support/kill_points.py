"""Named points of the program at which a process ends itself by SIGKILL, or fails; the program knows nothing of them.

`install` wraps the function that a point names, from outside, in the process that is to end. The kill comes between
two instructions of the program, as a power cut would, but at the same place each time.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import FrameType
from typing import Any, Literal

Holds = Callable[[FrameType, tuple[Any, ...], Any], bool]
"""Of the caller's frame, the arguments, and what the function returned: is the process at the point?"""


@dataclass(frozen=True, slots=True)
class Point:
    """Before or after a function (`module:Class.method`), where `holds`."""

    function: str
    when: Literal["before", "after"]
    holds: Holds = lambda _frame, _arguments, _result: True


class Failed(Exception):
    """What a process that was told to fail raises."""


def _called_by(name: str) -> Holds:
    return lambda frame, _arguments, _result: frame.f_code.co_name == name


def _with_a_commit(frame: FrameType, _arguments: tuple[Any, ...], _result: Any) -> bool:
    return any(statement == "COMMIT" for (statement, _), *_ in frame.f_locals["gathered"])


def _folded(share: float) -> Holds:
    return lambda frame, _arguments, progress: (
        frame.f_code.co_name == "fold" and progress.done >= share * progress.total
    )


POINTS = {
    # A command: its order is taken from the queue, decided, written in one transaction, and answered.
    "orders taken": Point("commands.writer:GroupCommitWriter._process", "before"),
    "orders decided": Point("commands.batch:Batch.decide", "after"),
    "events written": Point("commands.recorder:_keep", "before"),
    "answers kept": Point("commands.recorder:_keep", "after"),
    "commit sent": Point("commands.one_trip:Trip._flush", "after", _with_a_commit),
    "committed": Point("commands.recorder:LicensingRecorder.insert_events", "after"),
    "outcomes known": Point("commands.writer:_resolve", "before"),
    "answering": Point("api.connections:Connection._send", "before"),
    # An erasure: the register outside the database has it, then it is an order like others.
    "registered": Point("infra.erasure_register:ErasureRegister.add", "after"),
    # A round of the usage log: the lock is held from its beginning on.
    "usage round begun": Point("commands.usage_connection:UsageConnection._send", "after", _called_by("store")),
    "usage rows sent": Point("commands.usage_connection:UsageConnection._flush", "after", _called_by("store")),
    "usage rows stored": Point("commands.usage_connection:UsageConnection.store", "after"),
    # A step of a view: rows and position in one transaction, then the ack of the messages that told of them.
    "view written": Point("projections.following:Follower._apply", "after"),
    "position moved": Point("projections.following:Follower._apply_next", "after", lambda _, __, batch: batch.size > 0),
    "step committed": Point("projections.following:Follower.step", "after", lambda _, __, step: step.passed > 0),
    "word taken": Point("workers.feed:QueueFeed._take", "before"),
    "acking": Point("workers.feed:QueueFeed._answer", "before", lambda _, arguments, __: bool(arguments[1])),
    # The relay: published and confirmed, then the position is saved.
    "publishing": Point("workers.broker:Broker.publish", "before"),
    "confirmed": Point("workers.relay:Relay._save", "before"),
    "relayed": Point("workers.relay:Relay._save", "after"),
    # Detection: states, what was found and the positions in one transaction.
    "states stored": Point("workers.detection:Detection._store_states", "after"),
    "detected": Point("workers.detection:Detection._store", "after"),
    # A rebuild: the second tables are filled, then put in the place of the old ones.
    "rebuilt to 10 %": Point("projections.rebuild:Rebuild._progress", "after", _folded(0.1)),
    "rebuilt to 50 %": Point("projections.rebuild:Rebuild._progress", "after", _folded(0.5)),
    "rebuilt to 90 %": Point("projections.rebuild:Rebuild._progress", "after", _folded(0.9)),
    "swapping": Point("projections.rebuild:put_in_place", "after"),
    "swapped": Point("projections.rebuild:Rebuild.drop", "after", _called_by("_swap")),
}


def said_at(name: str) -> str:
    """Return what a process prints when it ends at a point."""
    return f"killed: {name}\n"


def install(name: str, passes: int = 1) -> None:
    """Have this process end when it is at a point for the `passes`-th time."""

    def end() -> None:
        os.write(sys.stderr.fileno(), said_at(name).encode())
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)  # this thread may be another than the one that gets the signal

    _wrap(POINTS[name], passes, passes, end)


def install_failure(name: str, passes: int = 1) -> None:
    """Have the function at a point fail the first `passes` times that the process is there."""

    def fail() -> None:
        raise Failed(name)

    _wrap(POINTS[name], 1, passes, fail)


def _wrap(point: Point, first: int, last: int, act: Callable[[], None]) -> None:
    owner, name = _owner(point.function)
    original = getattr(owner, name)
    passed = 0

    def look(frame: FrameType, arguments: tuple[Any, ...], result: Any) -> None:
        nonlocal passed
        if point.holds(frame, arguments, result):
            passed += 1
            if first <= passed <= last:
                act()

    def wrapped(*arguments: Any, **named: Any) -> Any:
        frame = sys._getframe(1)
        if point.when == "before":
            look(frame, arguments, None)
        result = original(*arguments, **named)
        if point.when == "after":
            look(frame, arguments, result)
        return result

    async def wrapped_coroutine(*arguments: Any, **named: Any) -> Any:
        frame = sys._getframe(1)
        if point.when == "before":
            look(frame, arguments, None)
        result = await original(*arguments, **named)
        if point.when == "after":
            look(frame, arguments, result)
        return result

    setattr(owner, name, wrapped_coroutine if inspect.iscoroutinefunction(original) else wrapped)


def _owner(function: str) -> tuple[Any, str]:
    module, _, path = function.partition(":")
    *classes, name = path.split(".")
    owner: Any = import_module(module)
    for one in classes:
        owner = getattr(owner, one)
    return owner, name
