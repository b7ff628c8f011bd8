"""Measures the time to read many small image files: `winnow prepare` against a plain loop of Pillow, one CPU each, by turns.

    python -m benchmarks.speed.preparing [--num 100000] [--size 32] [--kind png] [--rounds 3]

The plain loop opens every file, converts it to RGB and stores its pixels in an array. Ours is all that `winnow prepare` does for an image
folder: it lists the files, hashes them, decodes them, counts repeated images, holds out a test set and writes the cache. Each runs in a new
process that is bound to one CPU. Prints seconds and their ratio pair by pair. Writes benchmarks/results/preparing.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import RESULTS
from winnow.search.storage.provenance import hardware, versions

NUM_CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--num", type=int, default=100_000, help="image files")
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    parser.add_argument("--kind", default="png", choices=["png", "jpg"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="existing images; by default they are made, and removed at the end")
    parser.add_argument("--run", choices=["plain", "ours"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps({"plain": plain, "ours": ours}[options.run](options.folder)))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or make_images(Path(made), options.num, options.size, options.kind)
        runs = [measured(way, folder, k) for k in range(options.rounds) for way in ("plain", "ours")]
    seconds = {way: [run["seconds"] for run in runs if run["way"] == way] for way in ("plain", "ours")}
    ratios = [ours / plain for ours, plain in zip(seconds["ours"], seconds["plain"], strict=True)]
    print(f"ours / plain: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), n = {len(ratios)}")
    settings = {name: value for name, value in vars(options).items() if name not in ("folder", "run")}
    raw = {"options": settings, "ratios": ratios, "runs": runs, "hardware": hardware(), "versions": versions()}
    (RESULTS / "preparing.json").write_text(json.dumps(raw, indent=1) + "\n")


def make_images(folder: Path, num: int, size: int, kind: str) -> Path:
    """Smooth random pictures in ten class folders."""
    random = np.random.default_rng(0)
    for k in range(NUM_CLASSES):
        (folder / f"class{k}").mkdir(parents=True)
    for k in range(num):
        coarse = Image.fromarray(random.integers(0, 256, (max(4, size // 8), max(4, size // 8), 3), dtype=np.uint8))
        coarse.resize((size, size)).save(folder / f"class{k % NUM_CLASSES}" / f"{k}.{kind}")
    return folder


def measured(way: str, folder: Path, round_number: int) -> dict[str, object]:
    """One run in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.speed.preparing", "--run", way, "--folder", str(folder)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    run = {"way": way, "round": round_number, **json.loads(output), "load": os.getloadavg()[0]}
    print(json.dumps(run), file=sys.stderr)
    return run


def plain(folder: Path) -> dict[str, float]:
    """Read all images as people do by hand."""
    bind()
    wall, cpu = time.perf_counter(), time.process_time()
    files = sorted(folder.rglob("*.*"))
    images: np.ndarray | None = None
    for k, file in enumerate(files):
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
        if images is None:
            images = np.empty((len(files), *pixels.shape), dtype=np.uint8)
        images[k] = pixels
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu, "images": len(files)}


def ours(folder: Path) -> dict[str, float]:
    from winnow.search.data.source import load
    from winnow.spaces.schema import Data

    bind()
    with tempfile.TemporaryDirectory() as data_dir:
        wall, cpu = time.perf_counter(), time.process_time()
        data = load(Data(name="image_folder", path=str(folder)), Path(data_dir))
        seconds = time.perf_counter() - wall
    num = len(data.train_labels) + len(data.test_labels)
    return {"seconds": seconds, "cpu_seconds": time.process_time() - cpu, "images": num}


def bind() -> None:
    """Bind this process to one CPU, so that both contenders have the same."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


if __name__ == "__main__":
    main()
