"""What befalls a whole PostgreSQL server: killed, frozen, restarted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.cluster import Cluster
from tests.support.process_tree import freeze_tree, thaw_tree


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
    root = postmaster(cluster)
    try:
        freeze_tree(root)
        yield
    finally:
        thaw_tree(root)
