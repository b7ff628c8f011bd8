"""Images that are too many for the memory: training from the mapped cache against training from memory, and the memory that both steps take.

    python -m benchmarks.speed.mapped [--num 55000] [--size 224] [--pieces 12] [--folder IMAGES --data-dir CACHE]

Makes JPEG files whose pixels take 8 GB, reads them with the rule that mapping is used, and trains on pieces of the set, each image once. A piece
is trained on from the mapped files and from a copy in memory, by turns, with the same network, seed and order. Before each mapped turn the
system is asked to drop the files from its cache, so that every image is read from the disk; `--warm` leaves them there. The networks are small,
so that the images count. Own memory is `RssAnon` of Linux, which mapped files are no part of. Writes benchmarks/results/mapped.json,
or mapped-warm.json.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import torch

from benchmarks import RESULTS
from benchmarks.speed.preparing import make_images
from winnow.search.data import space_left
from winnow.search.data.image_data import ImageData
from winnow.search.data.source import load
from winnow.search.storage.provenance import hardware, versions
from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import train
from winnow.spaces.schema import Config, Data

CPU = torch.device("cpu")
PATCHES = {"filters": 16, "kernel": 4, "padding": 0, "stride": 4}
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"name": "mlp", "hidden": [16]},
    "cnn": {"name": "cnn", "stages": [PATCHES, {"filters": 32}]},
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--num", type=int, default=55_000, help="image files")
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--pieces", type=int, default=12, help="pieces of the set that are trained on")
    parser.add_argument("--piece", type=int, default=1500, help="images in a piece")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warm", action="store_true", help="let the system keep the files in its cache")
    parser.add_argument("--folder", type=Path, help="existing images; by default they are made, and removed at the end")
    parser.add_argument(
        "--data-dir", type=Path, help="where decoded images are kept; by default a folder that is removed"
    )
    parser.add_argument("--run", choices=list(STEPS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.run:
        print(json.dumps(STEPS[options.run](options)))
        return
    with tempfile.TemporaryDirectory() as made:
        options.folder = options.folder or make_images(Path(made, "images"), options.num, options.size, "jpg")
        options.data_dir = options.data_dir or Path(made, "data")
        steps = {step: in_process(step, options) for step in STEPS}
    settings = {name: value for name, value in vars(options).items() if name not in ("folder", "data_dir", "run")}
    for name in NETWORKS:
        ratios = [turn["mapped"] / turn["memory"] for turn in steps["compared"]["turns"] if turn["network"] == name]
        print(
            f"{name}: mapped / memory {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}), n = {len(ratios)}"
        )
    raw = {"options": settings, **steps, "hardware": hardware(), "versions": versions()}
    (RESULTS / f"mapped{'-warm' if options.warm else ''}.json").write_text(json.dumps(raw, indent=1) + "\n")


def in_process(step: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.speed.mapped", "--run", step, "--folder", str(options.folder)]
    command += ["--data-dir", str(options.data_dir), "--pieces", str(options.pieces), "--piece", str(options.piece)]
    command += ["--threads", str(options.threads), *(["--warm"] if options.warm else [])]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    print(step, json.dumps({key: value for key, value in result.items() if key != "turns"}), file=sys.stderr)
    return result


def prepared(options: argparse.Namespace) -> dict[str, Any]:
    """Decoding into the cache."""
    started = time.perf_counter()
    with own_memory() as memory:
        data = mapped_images(options)
    num_bytes = data.train_images.nbytes + data.test_images.nbytes
    return {"gigabytes": num_bytes / 1e9, "seconds": time.perf_counter() - started, **memory}


def trained(options: argparse.Namespace) -> dict[str, Any]:
    """The own memory of a process that trains on one piece, from the mapped cache alone."""
    with own_memory() as memory:
        data = mapped_images(options)
        for network in NETWORKS:
            images_per_second(data, network, piece_of(data, 0, options.piece))
    return memory


def compared(options: argparse.Namespace) -> dict[str, Any]:
    """Images per second from the mapped cache and from memory, by turns."""
    data = mapped_images(options)
    turns = []
    for number in range(options.pieces):
        piece = piece_of(data, number, options.piece)
        images, labels = np.array(data.train_images[piece.numpy()]), data.train_labels[piece.numpy()]
        in_memory = replace(data, train_images=images, train_labels=labels, fingerprint=f"piece {number}")
        for network in NETWORKS:
            turn: dict[str, Any] = {"network": network, "load": os.getloadavg()[0]}
            for kind in ("mapped", "memory") if number % 2 else ("memory", "mapped"):
                if kind == "mapped" and not options.warm:
                    drop_from_cache(data.train_images)
                used = (data, piece) if kind == "mapped" else (in_memory, torch.arange(len(piece)))
                turn[kind] = images_per_second(used[0], network, used[1])
            turns.append(turn)
            print(json.dumps(turn), file=sys.stderr)
    return {"turns": turns}


def mapped_images(options: argparse.Namespace) -> ImageData:
    space_left.MEMORY_SHARE = 0.0  # however much memory this machine has
    data = load(Data(name="image_folder", path=str(options.folder)), options.data_dir)
    assert isinstance(data.train_images, np.memmap)
    return data


def piece_of(data: ImageData, number: int, size: int) -> torch.Tensor:
    """Images from anywhere in the set; no image is in two pieces."""
    order = torch.randperm(len(data.train_images), generator=torch.Generator().manual_seed(0))
    return order[number * size : (number + 1) * size]


def images_per_second(data: ImageData, network: str, piece: torch.Tensor) -> float:
    tree = {
        "data": {"name": "image_folder", "path": "x", "normalize": "none", "augment": "flip"},
        "epochs": 1,
        "batch_size": 64,
        "model": NETWORKS[network],
        "optimizer": {"name": "sgd", "lr": 1e-9},
    }
    config = Config.model_validate(tree)
    whole = DeviceData.build(data, config.data, CPU, seed=0)
    part = replace(whole, train=replace(whole.train, index=piece), validation=None)
    return next(train(config, part, CPU, seed=0)).images_per_second


def drop_from_cache(images: np.ndarray) -> None:
    """Images of a mapped file: pages that a process has mapped would stay, so it gives them up first."""
    assert isinstance(images, np.memmap)
    assert isinstance(images.base, mmap.mmap)
    assert images.filename is not None
    images.base.madvise(mmap.MADV_DONTNEED)
    descriptor = os.open(images.filename, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


@contextmanager
def own_memory() -> Iterator[dict[str, float]]:
    """The peak of the memory that belongs to this process alone, looked at every 20 ms, above what it had."""
    figures = {"before_mb": anonymous_mb(), "peak_mb": 0.0}
    done = Event()

    def watch() -> None:
        while not done.wait(0.02):
            figures["peak_mb"] = max(figures["peak_mb"], anonymous_mb())

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    yield figures
    done.set()
    watcher.join()


def anonymous_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


STEPS = {"prepared": prepared, "trained": trained, "compared": compared}


if __name__ == "__main__":
    main()
