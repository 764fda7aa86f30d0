"""What befalls a whole PostgreSQL server: killed, frozen, restarted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.cluster import Cluster


def postmaster(cluster: Cluster) -> int:
    """Return the process id of the server, which must run."""
    pid = cluster.server._postmaster()
    assert pid is not None
    return pid


def kill_server(cluster: Cluster) -> None:
    """End the server as `pg_ctl stop -m immediate` does, and return when it is gone: the next start recovers."""
    pid = postmaster(cluster)
    os.kill(pid, signal.SIGQUIT)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "the server does not end"
        time.sleep(0.01)


@contextmanager
def frozen_server(cluster: Cluster) -> Iterator[None]:
    """Stop each process of the server where it is: connections stay open, and nothing answers."""
    pids = _processes(postmaster(cluster))
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _processes(parent: int) -> list[int]:
    """Return the parent, which is to be stopped first, and its children of now."""
    found = [parent]
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                after_name = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(after_name[1]) == parent:
                    found.append(int(folder.name))
    return found
