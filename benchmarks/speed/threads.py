"""One trial with all threads, or as many trials as cores with one thread each: which trains more images per second?

    python -m benchmarks.speed.threads [--space digits] [--set ...] [--repeats 3]

Measures with what `--concurrent auto` measures with (search/ray_backend/measure_packing.py), several times, and writes benchmarks/results/threads.md
and the raw figures beside it. Run it on an idle machine: the load is written down.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from statistics import median

from benchmarks import RESULTS
from winnow.search.data.source import Source, load_data
from winnow.search.ray_backend.measure_packing import measure_packing
from winnow.search.ray_backend.session import ray_session
from winnow.search.storage.provenance import available_cpus, hardware, versions
from winnow.spaces import catalog


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="digits")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    space = catalog.load(asked.space, asked.overrides)
    data = load_data(space, Source(asked.data_dir))
    load_before = os.getloadavg()[0]
    rates: dict[int, list[float]] = {}
    with ray_session(num_cpus=available_cpus()) as ray:
        for seed in range(asked.repeats):
            packing = measure_packing(ray, space, data, "cpu", float(available_cpus()), seed, lambda text: None)
            print(packing.explanation, flush=True)
            for level in packing.levels:
                if level.images_per_second is not None:
                    rates.setdefault(level.at_once, []).append(level.images_per_second)
    machine = hardware()
    rows = [
        f"| {n} | {max(1, available_cpus() // n)} | {median(found):,.0f} | {min(found):,.0f} to {max(found):,.0f} | {len(found)} |"
        for n, found in rates.items()
    ]
    text = (
        f"Space {asked.space}, another middle-sized config in each repeat. {machine['processor']}, {machine['num_cpus']} CPUs; "
        f"torch {versions()['torch']}; load of the machine before: {load_before:.1f}.\n\n"
        "| trials at once | threads each | images/s together, median | range | n |\n|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )
    (RESULTS / "threads.md").write_text(text)
    raw = {"images_per_second": rates, "load_before": load_before, "hardware": machine, "versions": versions()}
    (RESULTS / "threads.json").write_text(json.dumps(raw, indent=2) + "\n")
    print(text)


if __name__ == "__main__":
    main()
