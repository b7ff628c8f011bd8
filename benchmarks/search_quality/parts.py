"""Measures what each modern part brings to a small training: points of test accuracy, and time.

    python -m benchmarks.search_quality.parts DATA [--seeds 3] [--images 5000] [--epochs 12] [--only mixup cutmix ...]
    python -m benchmarks.search_quality.parts DATA --steps [--images 50000] [--epochs 10]

DATA is a folder of CIFAR-10 in Parquet. `recipes/cifar10-baseline` is trained on some of its images with and without each part,
with the same seeds, and tested on all 10,000 test images. The other families are trained as their recipes say, with the same
images and epochs. Prints a Markdown table of the differences, paired by seed, with 95 % intervals (Student's t), and
of the CPU time as a multiple of that of the baseline. Writes benchmarks/results/parts.json after each training, and continues
from it. About 40 s of one core for a training.

With `--steps`, the parts of `recipes/cifar10-fast` are added one after the other to the recipe without all of them, and left out one
by one (`steps.py`); the results are in benchmarks/results/steps.json. With all images and ten epochs, a training takes about 35 minutes
of one core, and there are 34 for each seed. Not measured yet.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from benchmarks import RESULTS, points
from benchmarks.search_quality import steps
from winnow.search.data.image_data import ImageData
from winnow.search.data.source import load
from winnow.search.operations.training import TrainingJob, fit_and_test
from winnow.search.storage.provenance import hardware, versions
from winnow.spaces import catalog
from winnow.spaces.schema import Config

BASE = "none"
FLIP_CROP = "{name: flip}, {name: crop}"
CNN = "recipes/cifar10-baseline"
PARTS: dict[str, tuple[str, list[str]]] = {
    BASE: (CNN, []),
    "no augmentation": (CNN, ["data.augment=none"]),
    "alternating flip": (CNN, ["data.augment=[{name: flip, alternate: true}, {name: crop}]"]),
    "cutout": (CNN, [f"data.augment=[{FLIP_CROP}, {{name: cutout, size: 12}}]"]),
    "random erasing": (CNN, [f"data.augment=[{FLIP_CROP}, {{name: random_erasing}}]"]),
    "TrivialAugment": (CNN, [f"data.augment=[{FLIP_CROP}, {{name: trivial_augment}}]"]),
    "RandAugment": (CNN, [f"data.augment=[{FLIP_CROP}, {{name: rand_augment}}]"]),
    "mixup": (CNN, ["mix=mixup"]),
    "CutMix": (CNN, ["mix=cutmix"]),
    "no label smoothing": (CNN, ["loss.label_smoothing=0.0"]),
    "EMA": (CNN, ["averaging=ema"]),
    "Lookahead": (CNN, ["averaging=lookahead"]),
    "flip in the test": (CNN, ["test_flip=true"]),
    "shift in the test": (CNN, ["test_shift=1"]),
    "GELU": (CNN, ["model.activation=gelu"]),
    "group norm": (CNN, ["model.norm=group"]),
    "layer norm": (CNN, ["model.norm=layer"]),
    "whitening": (CNN, ["model.whitening=2"]),
    "Dirac initialization": (CNN, ["model.init=dirac"]),
    "fixed gains of norms": (CNN, ["model.norm_gain=false"]),
    "momentum of norms": (CNN, ["model.norm_momentum=0.4"]),
    "pooling before the norm": (CNN, ["model.pool_place=after_conv"]),
    "global max pooling": (CNN, ["model.features=max"]),
    "scaled logits": (CNN, ["model.logits_scale=0.1111"]),
    "squeeze-excitation": (CNN, [f"model.stages.{k}.squeeze=8" for k in range(4)]),
    "depthwise convolutions": (CNN, [f"model.stages.{k}.separable=true" for k in range(1, 4)]),
    "Muon": (CNN, ["optimizer={name: muon, lr: 0.02, weight_decay: 0.01}"]),
    "Lion": (CNN, ["optimizer={name: lion, lr: 0.0004, weight_decay: 0.05}"]),
    "decoupled SGD": (CNN, ["optimizer={name: sgd, decoupled: true, lr: 4.0, momentum: 0.85, nesterov: true, weight_decay: 0.0133}"]),
    "larger rate of norms and biases": (CNN, ["optimizer.norm_bias_lr_factor=8.0"]),
    "smaller rates of early layers": (CNN, ["optimizer.layer_decay=0.8"]),
    "no decay of norms and biases": (CNN, ["optimizer.decay_biases=false"]),
    "ConvNeXt": ("recipes/cifar10-convnext", []),
    "ConvNeXt without stochastic depth": ("recipes/cifar10-convnext", ["model.stochastic_depth=0.0"]),
    "ViT": ("recipes/cifar10-vit", []),
}  # fmt: skip
"""Recipe and changed keys of each training. `BASE` is the recipe as it is."""


def config_of(part: str, data: str, images: int, epochs: int) -> Config:
    """Return the config of a part's training.

    Args:
        part: A key of `PARTS`.
        data: Folder of CIFAR-10 in Parquet.
        images: Number of training images.
        epochs: Number of epochs.
    """
    recipe, changes = PARTS[part]
    of_data = ["data.name=parquet", f"data.path={data}", f"data.limit={images}", f"epochs={epochs}"]
    return catalog.load(recipe, [*of_data, *changes]).example()


def trained(config: Config, data: ImageData, seed: int) -> dict[str, float]:
    """Train on all training images and test once: the test accuracy, and the CPU time in seconds."""
    started = time.process_time()
    final = fit_and_test(TrainingJob("part", config, seed, "retrain"), data, torch.device("cpu"), None)
    assert final is not None
    return {"test_accuracy": float(final["test_accuracy"]), "cpu_seconds": time.process_time() - started}


def table(runs: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return a Markdown table: for each part its test accuracy, the difference to the baseline with the same seeds, and the time.

    Args:
        runs: Part -> seed -> `test_accuracy` and `cpu_seconds`.
    """
    lines = ["| part | n | test accuracy, % | difference, points (95 %) | CPU time |", "|---|---|---|---|---|"]
    for part, by_seed in runs.items():
        accuracy = f"{100 * mean(run['test_accuracy'] for run in by_seed.values()):.1f}"
        both = [seed for seed in by_seed if seed in runs[BASE]]
        times = [by_seed[seed]["cpu_seconds"] / runs[BASE][seed]["cpu_seconds"] for seed in both]
        gains = [100 * (by_seed[seed]["test_accuracy"] - runs[BASE][seed]["test_accuracy"]) for seed in both]
        cells = [part, str(len(by_seed)), accuracy, "" if part == BASE else points(gains)]
        lines.append(f"| {' | '.join(cells)} | {median(times):.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", action="store_true", help="the parts of recipes/cifar10-fast, step by step")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = steps.trainings() if options.steps else list(dict.fromkeys([BASE, *options.only]))
    configure = steps.config_of if options.steps else config_of
    path = RESULTS / ("steps.json" if options.steps else "parts.json")
    setting = {"images": options.images, "epochs": options.epochs, "threads": options.threads}
    known = json.loads(path.read_text()) if path.is_file() else {"setting": setting, "runs": {}}
    if known["setting"] != setting:
        parser.error(f"{path} is of another setting, {known['setting']}; move it away")
    runs: dict[str, dict[str, dict[str, float]]] = known["runs"]
    data = load(configure(names[0], options.data, options.images, options.epochs).data, Path("data"))
    for seed in map(str, range(options.seeds)):
        for part in names:
            if seed in runs.setdefault(part, {}):
                continue
            config = configure(part, options.data, options.images, options.epochs)
            runs[part][seed] = trained(config, data, int(seed))
            print(seed, part, runs[part][seed], flush=True)
            result: dict[str, Any] = {"setting": setting, "runs": runs, "hardware": hardware(), "versions": versions()}
            path.write_text(json.dumps(result, indent=1) + "\n")
    print((steps.table if options.steps else table)({part: by_seed for part, by_seed in runs.items() if by_seed}))


if __name__ == "__main__":
    main()
