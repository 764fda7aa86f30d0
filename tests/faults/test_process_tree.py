"""The tests' own means of stopping PostgreSQL: nothing of it runs on, whatever was being started at that moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.support.process_tree import freeze_tree, kill_tree, thaw_tree

CHILDREN = 8
ROUNDS = 20

# Each child forks a child that writes a byte and ends, again and again, as fast as it can.
_FORKING = f"""
import os, sys
for _ in range({CHILDREN - 1}):
    if not os.fork():
        break
written = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
while True:
    pid = os.fork()
    if not pid:
        os.write(written, b".")
        os._exit(0)
    os.waitpid(pid, 0)
"""


def test_a_tree_that_forks_all_the_time_stands_still_goes_on_and_dies(tmp_path: Path) -> None:
    written = tmp_path / "written"
    written.touch()
    process = subprocess.Popen([sys.executable, "-c", _FORKING, str(written)], start_new_session=True)
    try:
        for _ in range(ROUNDS):
            _grows(written)
            freeze_tree(process.pid)
            size = written.stat().st_size
            # How long what was overlooked would have to write something: that nothing happens can't be waited for.
            time.sleep(0.02)
            assert written.stat().st_size == size
            thaw_tree(process.pid)
        _grows(written)
        kill_tree(process.pid)
        size = written.stat().st_size
        assert process.wait(10) == -signal.SIGKILL
        time.sleep(0.02)
        assert written.stat().st_size == size
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def _grows(path: Path) -> None:
    size, deadline = path.stat().st_size, time.monotonic() + 10
    while path.stat().st_size == size:
        assert time.monotonic() < deadline, "nothing is written"
        time.sleep(0.001)
