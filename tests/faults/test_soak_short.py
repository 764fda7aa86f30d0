"""Twenty cycles of the long run: each kind of part is killed, and all that must hold holds after each cycle."""

from __future__ import annotations

from tests.faults.soak import soak
from tests.support.plant import WORKERS

CYCLES = 20
COMMANDS = 1600
SEED = 1


def test_twenty_cycles() -> None:
    # Each cycle's line is shown where the test fails.
    figures = soak(CYCLES, COMMANDS, SEED, print, longest_freeze=1.5)
    assert figures.cycles == CYCLES
    assert figures.commands >= COMMANDS
    # Otherwise nothing was shown: every kind of part was down, and answers were lost and resolved.
    assert {"postgres", "rabbit", "reader", *WORKERS} <= figures.kills.keys()
    assert figures.asked_again > 0
    assert figures.replays > 0
    assert figures.statuses[201] > COMMANDS / 10
