"""Print the table of bars with what was reached: `python -m tests.calibration [--quick] [--seed N]`."""

from __future__ import annotations

import argparse
import sys
import time

from . import bars


def main() -> int:
    """Run the bars; exit status 1 if one is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.calibration", description=__doc__)
    parser.add_argument("--seed", type=int, default=20_000, help="seeds are drawn from this one")
    parser.add_argument("--count", type=int, default=40, help="simulated pairs per cell")
    parser.add_argument("--quick", action="store_true", help="a tenth of it")
    options = parser.parse_args()
    count = max(2, options.count // 10) if options.quick else options.count
    start = time.time()
    print("| what | bar | reached | of | met |")
    print("| --- | --- | --- | --- | --- |")
    missed = 0
    for part in (
        bars.quoted(), bars.cost(), bars.traps(options.seed, max(2, count // 2)), bars.kinds(options.seed, count),
        bars.pairs(options.seed, count), bars.console(options.seed, count),
    ):  # fmt: skip
        for bar in part:
            print(bar, flush=True)
            missed += not bar.ok
    print(f"\n{missed} missed; seed {options.seed}, {count} per cell, {time.time() - start:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
