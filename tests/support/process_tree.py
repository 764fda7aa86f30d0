"""A process and all that come from it: which they are; all of them stopped where they are, or killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

FREEZE_SECONDS = 10.0
END_SECONDS = 30.0


def process_tree(root: int) -> list[int]:
    """Return a process and all that come from it, parents first."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                children.setdefault(int(_state_and_parent(int(folder.name))[1]), []).append(int(folder.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def freeze_tree(root: int) -> None:
    """Stop a process and all that come from it where they are; return once none of them can do anything.

    One that still runs can have another child after the children were listed. So this ends when a list that was begun
    after all of the list before stood still holds nobody else.
    """
    deadline = time.monotonic() + FREEZE_SECONDS
    still: list[int] = []
    found = [root]
    while found != still:
        assert time.monotonic() < deadline, f"processes {found} do not stop"
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        still = [pid for pid in found if _stands_still(pid)]
        found = process_tree(root)


def kill_tree(root: int) -> None:
    """End a process and all that come from it at one instant, as a power cut would; return once they have ended."""
    freeze_tree(root)
    found = process_tree(root)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until_ended(found)


def wait_until_ended(pids: Iterable[int]) -> None:
    """Wait for the end of processes that were killed: it comes when each has had a core once more."""
    deadline = time.monotonic() + END_SECONDS
    for pid in pids:
        while not _has_ended(pid):
            assert time.monotonic() < deadline, f"process {pid} does not end"
            time.sleep(0.002)


def thaw_tree(root: int) -> None:
    """Let all go on that `freeze_tree` has stopped."""
    for pid in reversed(process_tree(root)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _stands_still(pid: int) -> bool:
    try:
        return _state_and_parent(pid)[0] in "TtZX"
    except OSError:
        return True


def _has_ended(pid: int) -> bool:
    """Tell whether no thread is left that could hold anything, though nobody may have asked for the exit code yet."""
    try:
        return all(_state_and_parent(pid, int(task.name))[0] in "ZX" for task in Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return not Path(f"/proc/{pid}").exists()


def _state_and_parent(pid: int, thread: int | None = None) -> list[str]:
    return Path(f"/proc/{pid}/task/{thread or pid}/stat").read_text().rpartition(")")[2].split()[:2]
