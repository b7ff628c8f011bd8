"""Compares the samplers on real trainings at equal wall-clock time, through the real command.

    python -m benchmarks.search_quality.real_trainings DATA --classes 43 --images 4500 --name cifar100-43

DATA is a folder of Parquet files in the layout of Hugging Face, such as CIFAR-100. Its first classes and images become a small data set. The
space is `cifar10-cnn` without its start point and baseline, at 9 epochs. For each seed the samplers run one after another, in an order that
rotates, as `winnow search SPACE --time-budget 170s`. The figure is the best validation accuracy so far, at some seconds after the start of the
command, which include the start of Ray. Results that are already in the file are not computed again. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from benchmarks import RESULTS
from winnow.search.storage.json_lines import JsonLines, read_json_lines
from winnow.search.storage.provenance import hardware, versions
from winnow.spaces import catalog

MARKS = (45, 90, 135, 175)  # seconds after the start of the command
BUDGET = "170s"
EPOCHS = 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--classes", type=int, default=10, help="the first classes that are kept")
    parser.add_argument("--images", type=int, default=5000, help="number of training images, validation included")
    parser.add_argument("--samplers", nargs="+", default=["forecast", "random", "tpe"])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--name", required=True, help="of the file in benchmarks/results")
    asked = parser.parse_args()
    path = RESULTS / f"real_trainings-{asked.name}.jsonl"
    done = {(line["sampler"], line["seed"]) for line in read_json_lines(path)}
    about = {"classes": asked.classes, "images": asked.images, "hardware": hardware(), "versions": versions()}
    lines = JsonLines(path)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        small_data(asked.data, asked.classes, asked.images, place / "data")
        (place / "space.yaml").write_text(yaml.safe_dump(space(place / "data")))
        for seed in range(asked.seeds):
            shift = seed % len(asked.samplers)
            for sampler in asked.samplers[shift:] + asked.samplers[:shift]:
                if (sampler, seed) in done:
                    continue
                result = search(place, sampler, seed)
                lines.append({"sampler": sampler, "seed": seed, **result, "date": time.strftime("%Y-%m-%d"), **about})
                print(sampler, seed, result, flush=True)
    lines.close()
    print(table(list(read_json_lines(path)), asked.samplers))


def small_data(source: Path, num_classes: int, num_images: int, folder: Path) -> None:
    """Write the first images of the first classes; `num_images` of them for training, all for the test."""
    folder.mkdir()
    for split, number in (("train", num_images), ("test", None)):
        whole = pa.concat_tables([pq.read_table(file) for file in sorted(source.glob(f"{split}-*.parquet"))])
        kept = whole.filter(pc.less(whole["label"], num_classes)).slice(0, number)
        about = json.loads((whole.schema.metadata or {})[b"huggingface"])
        label = about["info"]["features"]["label"]
        label["names"] = label["names"][:num_classes]
        kept = kept.replace_schema_metadata({"huggingface": json.dumps(about)})
        pq.write_table(kept, folder / f"{split}-00000-of-00001.parquet")


def space(data: Path) -> dict[str, Any]:
    """Return `cifar10-cnn` over these images, without what its author knew to be good."""
    tree = dict(catalog.load("cifar10-cnn", [f"epochs={EPOCHS}"]).tree)
    for key in ("start_from", "baseline"):
        tree.pop(key, None)
    return {**tree, "data": {**tree["data"], "name": "parquet", "path": str(data), "validation": 0.2}}


def search(place: Path, sampler: str, seed: int) -> dict[str, Any]:
    """Run one search and return the best accuracy at each mark, and how the epochs were spent."""
    name = f"{sampler}-{seed}"
    arguments = ["search", "space.yaml", "--sampler", sampler, "--seed", str(seed), "--time-budget", BUDGET]
    began = time.time()
    ended = subprocess.run(
        [sys.executable, "-m", "winnow", *arguments, "--trials", "10000", "--name", name, "--quiet"],
        cwd=place,
        capture_output=True,
        text=True,
    )
    if ended.returncode not in (0, 130):  # 130: the time was over
        raise SystemExit(f"{name} ended with exit code {ended.returncode}:\n{ended.stderr}")
    epochs = list(read_json_lines(place / "runs" / name / "epochs.jsonl"))
    completed = [line["validation_accuracy"] for line in epochs if line["epoch"] == EPOCHS]
    seen = [
        max((line["validation_accuracy"] for line in epochs if line["time"] - began <= mark), default=0.0)
        for mark in MARKS
    ]
    return {
        "best_at": seen,
        "best": max(line["validation_accuracy"] for line in epochs),
        "best_completed": max(completed, default=None),
        "completed": len(completed),
        "trials": len(Counter(line["trial"] for line in epochs)),
        "epochs": len(epochs),
    }


def table(lines: list[dict[str, Any]], samplers: list[str]) -> str:
    """Return means over the seeds that all samplers have, in percent, as Markdown."""
    found = {(line["sampler"], line["seed"]): line for line in lines}
    seeds = sorted(seed for sampler, seed in found if sampler == samplers[0])
    seeds = [seed for seed in seeds if all((sampler, seed) in found for sampler in samplers)]
    marks = " / ".join(map(str, MARKS))
    rows = [f"| sampler | best after {marks} s, % | best at the end, % (each seed) | trials | completed | epochs | n |"]
    rows.append("|---|---|---|---|---|---|---|")
    for sampler in samplers:
        runs = [found[sampler, seed] for seed in seeds]
        best = [100 * run["best"] for run in runs]
        means = " / ".join(f"{100 * mean(run['best_at'][k] for run in runs):.1f}" for k in range(len(MARKS)))
        spread = f" ± {stdev(best):.1f}" if len(best) > 1 else ""
        each = ", ".join(f"{value:.1f}" for value in best)
        counts = " | ".join(f"{mean(run[key] for run in runs):.0f}" for key in ("trials", "completed", "epochs"))
        rows.append(f"| `{sampler}` | {means} | {mean(best):.1f}{spread} ({each}) | {counts} | {len(runs)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
