"""Simulates searches through disasters and reports every history in which something was lost, doubled or wrong.

python -m benchmarks.reliability.disasters --seeds 10000            (or: python -m benchmarks.disasters --seeds 10000)
python -m benchmarks.reliability.disasters --only 4711              the history of one seed, step by step
python -m benchmarks.reliability.disasters --bug "study before line" --seeds 100
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from benchmarks.reliability.disasters.bugs import BUGS
from benchmarks.reliability.disasters.history import Result, simulate

BLOCK = 50
"""Seeds that a process takes at a time."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", type=int, help="one seed, with its history")
    parser.add_argument("--bug", choices=BUGS, help="put this bug into the code first")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    if options.only is not None:
        result = simulate(options.only, options.bug)
        print("\n".join(result.log))
        print("\n".join(result.violations) or "nothing is wrong")
        sys.exit(bool(result.violations))
    sys.exit(_simulate_many(range(options.first, options.first + options.seeds), options.bug, options.processes))


def _simulate_many(seeds: range, bug: str | None, processes: int) -> int:
    started = time.monotonic()
    num_starts = num_faults = num_wrong = 0
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for seed, result in zip(seeds, pool.map(partial(simulate, bug=bug), seeds, chunksize=BLOCK), strict=True):
            num_starts += result.starts
            num_faults += result.faults
            if result.violations:
                num_wrong += 1
                print(f"seed {seed}: {_shown(result)}", flush=True)
    seconds = time.monotonic() - started
    print(
        f"{len(seeds)} histories, {num_starts} starts, {num_faults} faults: {num_wrong} with something wrong; "
        f"{seconds:.0f} s in {processes} processes"
    )
    return int(num_wrong > 0)


def _shown(result: Result) -> str:
    more = len(result.violations) - 1
    return result.violations[0] + (f" (and {more} more)" if more else "")


if __name__ == "__main__":
    main()
