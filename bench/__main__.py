"""`python -m bench [NAME ...] [--quick] [--json FILE] [--plot FILE]`: measures beside their baselines.

Without names, all of them. What is asked of each figure is shown beside it; falling short is no failure of the
program. It ends with 1 where something could not be measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import traceback
from pathlib import Path

from bench import plot, report
from bench.figures import Result
from bench.lab import FULL, QUICK, Lab, Sizes
from bench.load import MissingTool, WrongAnswers, check_wrk
from bench.registry import MEASURES
from bench.servers import ServerFailed


def main() -> int:
    """Run what was asked for; return the exit code."""
    asked = _parser().parse_args()
    if asked.list:
        print("\n".join(f"{name:<16} {measure.about}" for name, measure in MEASURES.items()))
        return 0
    if unknown := sorted(set(asked.names) - set(MEASURES)):
        print(f"there is no measure {', '.join(unknown)}; --list names all", file=sys.stderr)
        return 2
    try:
        check_wrk()
    except MissingTool as missing:
        print(missing, file=sys.stderr)
        return 2
    sizes = _sizes(asked)
    # So that servers are stopped and folders removed then too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    busy = os.getloadavg()[0]
    if busy > 0.25 * (os.cpu_count() or 1):
        print(f"the machine is busy (load average {busy:.1f}): figures will be noisy, ratios less so", file=sys.stderr)
    results, failed = _measured(asked.names or list(MEASURES), sizes)
    print(report.table(results))
    if asked.json:
        content = report.as_json(results, {**dataclasses.asdict(sizes), "load_average_before": busy})
        asked.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if asked.plot:
        asked.plot.write_text(plot.svg([curve for one in results for curve in one.curves]), encoding="utf-8")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures beside their baselines.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which measures; default: all")
    parser.add_argument("--list", action="store_true", help="name all measures")
    parser.add_argument("--quick", action="store_true", help="small and short: shows that it runs, not how fast it is")
    parser.add_argument("--rounds", type=int, help="rounds of each measure")
    parser.add_argument("--seconds", type=int, help="seconds that each side is measured in each round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw growth curves there, as SVG")
    return parser


def _sizes(asked: argparse.Namespace) -> Sizes:
    given = {name: value for name in ("rounds", "seconds") if (value := getattr(asked, name)) is not None}
    return dataclasses.replace(QUICK if asked.quick else FULL, **given)


def _measured(names: list[str], sizes: Sizes) -> tuple[list[Result], bool]:
    results: list[Result] = []
    failed = False
    with Lab(sizes) as lab:
        for name in names:
            lab.say(f"== {name}: {MEASURES[name].about}")
            try:
                results.append(MEASURES[name].run(lab))
            except (WrongAnswers, ServerFailed, MissingTool) as error:
                print(f"{name} could not be measured: {error}", file=sys.stderr)
                failed = True
            except Exception:  # noqa: BLE001 - the figures of an hour are not lost for one that went wrong
                print(f"{name} could not be measured:\n{traceback.format_exc()}", file=sys.stderr)
                failed = True
            # What is served by then is stopped, also where a measure has failed.
            lab.tidy()
    return results, failed


if __name__ == "__main__":
    sys.exit(main())
