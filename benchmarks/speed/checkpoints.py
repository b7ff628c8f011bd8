"""What share of a training's time do its checkpoints take, if one is written after each epoch?

    python -m benchmarks.speed.checkpoints [--device cpu] [--checkpoints 20] [--images 1000] [--threads 1] [--folder FOLDER]

Four recipes or networks of digits and CIFAR size train a few epochs as a worker trains a trial. After the last epoch the checkpoint is written many
times as the worker writes it: state copied to the CPU, serialised, written, synced, renamed. The digits are whole; the CIFAR-10 is made up, with
`--images` training images, and the seconds of a whole epoch (45,000 images) are those of a measured one times the ratio of images. Prints
Markdown and writes benchmarks/results/checkpoints-DEVICE.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import RESULTS, spread
from benchmarks.speed.gpu import write_images
from winnow.models import summarize
from winnow.search.data.source import Source, load_data
from winnow.search.ray_backend.worker import device_name
from winnow.search.storage.provenance import hardware, versions
from winnow.search.training.checkpoint import save
from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import train
from winnow.spaces import catalog
from winnow.spaces.schema import Config

WHOLE = 45_000
"""Training images of CIFAR-10 with a tenth for validation."""
RESNET18 = (
    "model={name: residual, stem: 64, stages: [{blocks: 2, filters: 64, stride: 1}, {blocks: 2, filters: 128, stride: 2}, "
    "{blocks: 2, filters: 256, stride: 2}, {blocks: 2, filters: 512, stride: 2}]}"
)
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "digits-baseline": ("recipes/digits-baseline", ()),
    "cifar10-baseline": ("recipes/cifar10-baseline", ()),
    "cifar10-fast": ("recipes/cifar10-fast", ("batch_size=256",)),
    "ResNet-18, AdamW": ("recipes/cifar10-baseline", (RESNET18,)),
}
EPOCHS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda", "mps"], default="cpu")
    parser.add_argument("--checkpoints", type=int, default=20, help="of each case")
    parser.add_argument("--images", type=int, default=1000, help="for training, of the size of CIFAR-10's")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where checkpoints are written. Default: the temporary folder")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    device = torch.device(asked.device)
    load = os.getloadavg()[0]
    print(
        f"{device_name(device)}, {asked.checkpoints} checkpoints of each case\n\n"
        "| case | parameters | checkpoint, MB | checkpoint, ms | an epoch, s | share of the time, % | 1 % for epochs of, s |\n"
        "|---|---|---|---|---|---|---|"
    )
    rows = []
    with tempfile.TemporaryDirectory(prefix="winnow-checkpoints-", dir=asked.folder) as folder:
        write_images(Path(folder, "images.npz"), None, round(asked.images / 0.9))
        for case in asked.cases:
            config, data, summary = prepare(case, Path(folder))
            figures = measured(config, data, device, Path(folder, "checkpoint.pt"), asked.checkpoints)
            rows.append({"case": case, "parameters": summary, **figures, **shares(figures, case != "digits-baseline")})
            print(line(rows[-1]), flush=True)
    raw = {
        "options": {name: value for name, value in vars(asked).items() if name not in ("folder", "output")},
        "cases": rows,
        "load_before": load,
        "hardware": hardware(),
        "versions": versions(),
    }
    (asked.output / f"checkpoints-{asked.device}.json").write_text(json.dumps(raw, indent=2) + "\n")


def prepare(case: str, folder: Path) -> tuple[Config, Any, int]:
    """The config of a case, its images, and its number of parameters."""
    name, overrides = CASES[case]
    made_up = ("data.name=npz", f"data.path={folder / 'images.npz'}", "data.validation=0.1", "data.normalize=computed")
    images = () if case == "digits-baseline" else made_up
    space = catalog.load(name, (f"epochs={EPOCHS}", *overrides, *images))
    data = load_data(space, Source(Path("data")))
    config = space.example()
    return config, data, summarize(config.model, data.image_shape, data.num_classes).num_parameters


def measured(config: Config, data: Any, device: torch.device, path: Path, num_checkpoints: int) -> dict[str, Any]:
    """Train as a worker does, and write the checkpoint of the last epoch several times.

    Args:
        config: The config.
        data: Its images.
        device: The device to train on.
        path: File of the checkpoint.
        num_checkpoints: How often it is written.

    Returns:
        Seconds of each epoch but the first, which loads libraries; seconds of each checkpoint, by the clock and of CPU; its bytes.
    """
    on_device = DeviceData.build(data, config.data, device, seed=0)
    epochs: list[float] = []
    history: list[dict[str, Any]] = []
    clock: list[float] = []
    cpu: list[float] = []
    for result in train(config, on_device, device, seed=0):
        history.append(result.figures())
        epochs.append(result.wall_seconds)
        for _ in range(num_checkpoints if result.last else 1):
            began, began_cpu = time.monotonic(), time.process_time()
            save(path, {**result.state(), "history": history})
            if result.last:
                clock.append(time.monotonic() - began)
                cpu.append(time.process_time() - began_cpu)
    return {
        "train_images": len(on_device.train),
        "epoch_seconds": epochs[1:],
        "checkpoint_seconds": clock,
        "checkpoint_cpu_seconds": cpu,
        "checkpoint_bytes": path.stat().st_size,
    }


def shares(figures: dict[str, Any], is_cifar: bool) -> dict[str, float]:
    """Return the seconds of a whole epoch, the share of the time that checkpoints take, and the epoch for which that is 1 %.

    Args:
        figures: What `measured` returned.
        is_cifar: Whether the epoch is to be that of the whole CIFAR-10.
    """
    epoch = statistics.median(figures["epoch_seconds"]) * (WHOLE / figures["train_images"] if is_cifar else 1.0)
    checkpoint = statistics.median(figures["checkpoint_seconds"])
    return {
        "whole_epoch_seconds": epoch,
        "share": checkpoint / (checkpoint + epoch),
        "seconds_of_epochs_with_1_percent": 99 * checkpoint,
    }


def line(row: dict[str, Any]) -> str:
    """A row of the printed table."""
    milliseconds = [1000 * seconds for seconds in row["checkpoint_seconds"]]
    return (
        f"| {row['case']} | {row['parameters']:,} | {row['checkpoint_bytes'] / 1e6:.1f} | {spread(milliseconds)} | "
        f"{row['whole_epoch_seconds']:.2f} | {100 * row['share']:.2f} | {row['seconds_of_epochs_with_1_percent']:.1f} |"
    )


if __name__ == "__main__":
    main()
