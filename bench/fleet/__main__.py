"""Makes a fleet: `python -m bench.fleet OUT [--seed 1] [--licenses 400] [--days 45]`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from bench.fleet.fleet import count_kinds, make_fleet
from bench.fleet.output import write


def main() -> None:
    """Make it, write it, and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--licenses", type=int, default=400)
    parser.add_argument("--days", type=int, default=45)
    arguments = parser.parse_args()
    begun = time.monotonic()
    fleet = make_fleet(arguments.seed, arguments.licenses, arguments.days)
    write(fleet, arguments.out)
    kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(count_kinds(fleet).items()))
    print(f"{len(fleet.usage):,} events of {len(fleet.licences)} licences in {time.monotonic() - begun:.1f} s; {kinds}")
    print(fleet.world.style)


if __name__ == "__main__":
    main()
