"""Run all tests in two halves at once: `python tests/side_by_side.py`.

The first half mostly waits, for processes that start, die and come back; the second mostly computes. Together they take
two thirds of the time. What the second prints comes once the first has ended. The exit code is 0 where both passed.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

WAITING = ("tests/faults", "tests/workers", "tests/processes", "tests/cli")
POLL_SECONDS = 0.2


def main() -> int:
    """Run both halves; return the exit code."""
    with tempfile.NamedTemporaryFile() as printed:
        others = ["tests", *(f"--ignore={path}" for path in WAITING)]
        halves = [_pytest(WAITING), _pytest(others, printed.file)]
        # Ctrl-C goes to both by itself; a signal to this process alone is passed on, so that nothing is left running.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: _interrupt(halves))
        halves[0].wait()
        _follow(Path(printed.name), halves[1])
    return int(max(abs(half.returncode) for half in halves))


def _pytest(arguments: Sequence[str], output: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.Popen(command, stdout=output, stderr=output, cwd=Path(__file__).parents[1])


def _interrupt(halves: Sequence[subprocess.Popen[bytes]]) -> None:
    for half in halves:
        half.send_signal(signal.SIGINT)


def _follow(printed: Path, half: subprocess.Popen[bytes]) -> None:
    """Print what a half has printed, and go on until it ends."""
    with printed.open("rb") as reading:
        has_ended = False
        while not has_ended:
            has_ended = half.poll() is not None
            sys.stdout.buffer.write(reading.read())
            sys.stdout.flush()
            time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
