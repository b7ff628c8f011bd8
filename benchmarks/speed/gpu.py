"""Measures Winnow on a GPU: one trial against other loops, several trials on it at once, and a whole `winnow run` through Ray.

    python -m benchmarks.speed.gpu                          # a CUDA device, under 8 minutes
    python -m benchmarks.speed.gpu --no-ray                 # where Ray and Optuna are not installed
    python -m benchmarks.speed.gpu --device cpu --quick     # the same on a CPU in two minutes: shows that it runs, measures nothing

0. `--only basics`: whether everything runs at all (benchmarks/speed/gpu_basics.py). benchmarks/speed/gpu.md says which part to run when.
1. Training images per second of three networks in several loops, by turns: a plain DataLoader without and with worker processes
   (`benchmarks.peers.common.train`), a loop written by hand for this one purpose (images on the device, channels_last, bfloat16, fused
   Adam, cudnn.benchmark), the same with each step recorded as a CUDA graph, the same compiled (on a GPU only), and Winnow's, with `cuda_graphs` too. Each is timed
   from the read images to its last epoch's validation accuracy, after one epoch that is not counted.
2. 1, 2, 4 and 8 trainings at once, each in a process of its own: images per second together, memory of a training, memory of the device.
   "chosen" is what `--trials-per-gpu auto` makes of such figures (search/ray_backend/measure_packing.py). Then the same under a CUDA MPS
   daemon, if the machine has NVIDIA's program.
3. The recipe `cifar10-fast`, trained and tested once by `winnow train`.
4. `winnow run cifar10-cnn` with everything left to Winnow, `--trials-per-gpu auto` included.

CIFAR-10 is read from the folder `--data`, in any layout that `winnow prepare cifar10 --data-dir FOLDER` takes; without it images of the same
shape are made up, which train as fast but mean nothing. Prints Markdown and writes benchmarks/results/gpu-<device>.json (or into `--output`)
after each row, so that an interrupted run keeps what it has. After `--minutes` no further network, number of trainings or part begins; the last
lines and `left_out` in the file name what was not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import RESULTS, spread
from benchmarks.speed.by_hand import by_hand, torch_defaults
from benchmarks.speed.gpu_basics import basics
from benchmarks.speed.side_by_side import together
from benchmarks.speed.throughput import ours, ours_with_graphs, usual
from winnow.search.data.image_data import ImageData
from winnow.search.data.source import Source, load_data
from winnow.search.ray_backend.measure_packing import memory_of
from winnow.search.ray_backend.worker import device_name
from winnow.search.resources.mps import mps_daemon
from winnow.search.resources.packing import CONTEXT_MB, LEVELS, Level, choose
from winnow.search.storage.mps_control import CONTROL
from winnow.search.storage.provenance import available_cpus, hardware, versions
from winnow.spaces.schema import Config
from winnow.spaces.space import Space

PARTS = ("basics", "loops", "packing", "fast_recipe", "winnow_run")
STAGES = {"small": (32, 64, 128), "middle": (64, 128, 256, 256), "large": (64, 128, 256, 512)}
BATCH_SIZE = 256
NUM_IMAGES = 20_000  # more would only make the DataLoader's epochs longer
Loop = Callable[[Config, ImageData, int, torch.device], tuple[float, float, int]]
"""(seconds, validation accuracy at the end, training images of an epoch)"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--data", type=Path, help="folder of data sets with CIFAR-10, as for `winnow prepare`")
    parser.add_argument(
        "--quick", action="store_true", help="few images, small networks, two at once: only to see it run"
    )
    parser.add_argument("--no-ray", action="store_true", help="without the part that needs Ray, `winnow run`")
    parser.add_argument("--only", choices=PARTS, help="one part alone")
    parser.add_argument("--minutes", type=float, default=7.5, help="`winnow run` gets what the others leave of it")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device cuda: torch sees no GPU here; --device cpu --quick shows that the script runs")
    missing = [name for name in ("ray", "optuna") if find_spec(name) is None]
    if missing and not asked.no_ray:
        sys.exit(f"{' and '.join(missing)} not installed here: give --no-ray, or install them")
    deadline = time.monotonic() + 60 * asked.minutes
    with tempfile.TemporaryDirectory(prefix="winnow-gpu-") as folder:
        Benchmark(asked, Path(folder), deadline).run()


class Benchmark:
    def __init__(self, asked: argparse.Namespace, folder: Path, deadline: float) -> None:
        self.asked = asked
        self.folder = folder
        self.began = time.monotonic()
        self.deadline = deadline
        self.device = torch.device(asked.device)
        self.images = write_images(folder / "images.npz", asked.data, 600 if asked.quick else NUM_IMAGES)
        self.seconds = 0.2 if asked.quick else 2.0  # of one timed training, about
        self.repeats = 1 if asked.quick else 3
        self.threads = 1 if asked.quick else available_cpus()
        torch.set_num_threads(self.threads)
        self.raw: dict[str, Any] = {
            "options": {"device": asked.device, "quick": asked.quick},
            "images": self.images,
            "device": device_name(self.device),
            "hardware": hardware(),
            "versions": versions(),
            "load": os.getloadavg(),
            "left_out": [],
        }

    def run(self) -> None:
        print(f"{self.raw['device']}, torch {torch.__version__}, {available_cpus()} CPUs; {self.images}", flush=True)
        if self.asked.quick:
            print("**--quick: this shows that the script runs; the figures mean nothing**")
        for name in PARTS:
            is_asked = self.asked.only in (None, name) and not (name == "winnow_run" and self.asked.no_ray)
            if is_asked and self._in_time(name):
                getattr(self, name)()
        if self.raw["left_out"]:
            print(f"\nLeft out, since --minutes {self.asked.minutes:g} were over: {'; '.join(self.raw['left_out'])}")
        print(f"\n{self.raw.get('minutes', 0.0)} minutes in all")

    def _in_time(self, what: str) -> bool:
        """Return whether there is time for something; otherwise note that it is left out."""
        if time.monotonic() <= self.deadline:
            return True
        self.raw["left_out"].append(what)
        self._write()
        return False

    def _add(self, part: str, row: dict[str, Any]) -> None:
        self.raw.setdefault(part, []).append(row)
        self._write()

    def _write(self) -> None:
        self.raw["minutes"] = round((time.monotonic() - self.began) / 60, 2)
        stem = f"gpu-{self.asked.device}" + ("-quick" if self.asked.quick else "")
        stem += f"-{self.asked.only}" if self.asked.only else ""
        (self.asked.output / f"{stem}.json").write_text(json.dumps(self.raw, indent=2) + "\n")

    def config(self, size: str, epochs: int = 1) -> tuple[Config, ImageData]:
        """A network of plain convolutions; the large one is a ResNet-18 for small images."""
        filters = [max(4, width // 16) if self.asked.quick else width for width in STAGES[size]]
        if size == "large":
            blocks = 1 if self.asked.quick else 2
            stages = [
                {"blocks": blocks, "filters": width, "stride": 2 if place else 1} for place, width in enumerate(filters)
            ]
            model: dict[str, Any] = {"name": "residual", "stem": filters[0], "stages": stages}
        else:
            model = {"name": "cnn", "stages": [{"filters": width, "pool": "max"} for width in filters], "norm": "batch"}
        data = {"name": "npz", "path": str(self.folder / "images.npz"), "validation": 0.1, "augment": "flip_crop"}
        tree = {
            "data": {**data, "normalize": "computed"},
            "epochs": epochs,
            "batch_size": BATCH_SIZE,
            "model": model,
            "optimizer": {"name": "adam", "lr": 0.001},
        }
        space = Space.from_tree(tree, source="benchmarks.speed.gpu")
        return space.example(), load_data(space, Source(Path("data")))

    def basics(self) -> None:
        config, data = self.config("small")
        for row in basics(config, data, self.asked.device, with_tests=self.asked.device == "cuda"):
            self._add("basics", row)

    # --- one training ---------------------------------------------------------------------------------------------------

    def loops(self) -> None:
        num_workers = max(1, min(8, available_cpus() - 1))
        loops: dict[str, Loop] = {
            "DataLoader": usual,
            f"DataLoader, {num_workers} workers": partial(usual, num_workers=num_workers),
            "by hand": by_hand,
            "by hand, graph": partial(by_hand, launch="graph"),
            **({"by hand, compiled": partial(by_hand, launch="compiled")} if self.device.type == "cuda" else {}),
            "Winnow": ours,
            **({"Winnow, graphs": ours_with_graphs} if self.device.type == "cuda" else {}),
        }
        print(f"\nOne training, batches of {BATCH_SIZE}: images/s, median (range) of {self.repeats}\n")
        print(f"| network | {' | '.join(loops)} | Winnow / by hand |\n|---|{'---|' * (len(loops) + 1)}")
        for size in STAGES:
            if not self._in_time(f"loops: {size}"):
                continue
            config, data = self.config(size)
            rates: dict[str, list[float]] = {name: [] for name in loops}
            accuracies: dict[str, float] = {}
            epochs = {name: self._epochs(loop, config, data) for name, loop in loops.items()}
            for seed in range(self.repeats):
                if seed and not self._in_time(f"loops: {size}, turn {seed + 1} of {self.repeats}"):
                    continue
                for name, loop in loops.items():
                    longer = config.model_copy(update={"epochs": epochs[name]})
                    with torch_defaults():
                        seconds, accuracies[name], num_images = loop(longer, data, seed, self.device)
                    rates[name].append(num_images * epochs[name] / seconds)
            row = {"network": size, "images_per_second": rates, "epochs": epochs, "accuracy": accuracies}
            self._add("loops", row)
            ratio = statistics.median(a / b for a, b in zip(rates["Winnow"], rates["by hand"], strict=True))
            print(
                f"| {size} | {' | '.join(spread(of_way, ',.0f') for of_way in rates.values())} | {ratio:.2f} |",
                flush=True,
            )

    def _epochs(self, loop: Loop, config: Config, data: ImageData) -> int:
        """The number of epochs that take about `self.seconds`, after one that is not counted (it loads libraries, compiles and chooses algorithms)."""
        with torch_defaults():
            loop(config, data, 0, self.device)
            seconds, _, _ = loop(config, data, 0, self.device)
        return max(1, min(50, round(self.seconds / seconds)))

    # --- several at once ------------------------------------------------------------------------------------------------

    def packing(self) -> None:
        memory_mb = memory_of(self.asked.device)
        print(f"\nTrainings at once, a process each; the device has {memory_mb:,.0f} MB\n")
        print("| network | MPS | at once | images/s together | against one | MB of a training | MB of the device |")
        print("|---|---|---|---|---|---|---|")
        has_mps = self.device.type == "cuda" and shutil.which(CONTROL) is not None
        for with_mps in (False, True) if has_mps else (False,):
            with mps_daemon() if with_mps else nullcontext():
                for size in ("small", "large"):
                    self._packing_of(size, with_mps, memory_mb)
        if not has_mps:
            print(f"\nMPS: not measured, there is no GPU or no {CONTROL} here")

    def _packing_of(self, size: str, with_mps: bool, memory_mb: float | None) -> None:
        config, data = self.config(size)
        mps = "yes" if with_mps else "no"
        levels: list[Level] = []
        alone: dict[str, Any] | None = None
        for at_once in LEVELS[:2] if self.asked.quick else LEVELS:
            if not self._in_time(f"packing: {size}, {at_once} at once{', MPS' if with_mps else ''}"):
                continue
            threads, seconds = max(1, self.threads // at_once), 0.2 if self.asked.quick else 2.5
            row = together(config, data, at_once, self.device, seconds, threads)
            self._add("packing", {"network": size, "mps": with_mps, "at_once": at_once, **row})
            alone = alone or row
            rate = row["images_per_second"]
            needed = at_once * (alone["memory_mb"] + CONTEXT_MB)
            levels.append(Level(at_once, rate or None, needed, row["error"]))
            against = rate / alone["images_per_second"] if alone["images_per_second"] else 0.0
            print(
                f"| {size} | {mps} | {at_once} | {rate:,.0f} {row['error']} | {against:.2f} | {row['memory_mb']:,.0f} | "
                f"{row['device_mb']:,.0f} |",
                flush=True,
            )
        if levels:
            print(f"| {size} | {mps} | chosen: {choose(levels, memory_mb).at_once} | | | | |", flush=True)

    # --- a recipe -------------------------------------------------------------------------------------------------------

    def fast_recipe(self) -> None:
        """Train `cifar10-fast` as published here, on all training images, and test it once."""
        images = ["--set", "data.name=npz", "--set", f"data.path={self.folder / 'images.npz'}"]
        images += ["--set", "data.normalize=computed"]
        if self.asked.data is not None:
            images = ["--data-dir", str(self.asked.data)]
        if self.asked.quick:
            images += ["--set", "data.limit=300", "--set", "epochs=1"]
        output = self.folder / "fast"
        command = [sys.executable, "-m", "winnow", "train", "recipes/cifar10-fast", *images, "--fit-validation"]
        command += ["--device", self.asked.device, "--output", str(output)]
        done, seconds = self._command("fast_recipe", command)
        if done is None:
            return
        print(
            f"\n`winnow train recipes/cifar10-fast`, {self.images}: exit code {done.returncode} after {seconds:.0f} s"
        )
        print("\n".join((done.stdout if done.returncode == 0 else done.stderr).splitlines()[-8:]), flush=True)
        self.raw["fast_recipe"] = {
            "exit_code": done.returncode,
            "seconds": seconds,
            "output": done.stdout[-2000:],
            "errors": done.stderr[-2000:],
        }
        self._write()

    def _command(self, part: str, command: list[str]) -> tuple[subprocess.CompletedProcess[str] | None, float]:
        """Run a command until the deadline. Returns how it ended (None: it was stopped), and its seconds."""
        began = time.monotonic()
        limit = 600.0 if self.asked.quick else max(1.0, self.deadline - began)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        except subprocess.TimeoutExpired:
            self.raw["left_out"].append(f"{part}: stopped after {limit:.0f} s")
            self._write()
            return None, limit
        return done, time.monotonic() - began

    # --- everything -----------------------------------------------------------------------------------------------------

    def winnow_run(self) -> None:
        left = self.deadline - time.monotonic()
        if left < 90 and not self.asked.quick:
            self.raw["left_out"].append(f"winnow_run: only {left:.0f} s were left")
            self._write()
            return
        size = (
            ["--trials", "2", "--set", "epochs=1", "--set", "model.stages.filters=16", "--concurrent", "2"]
            if self.asked.quick
            else ["--trials", "24", "--set", "epochs=9", "--time-budget", f"{0.3 * left:.0f}s"]
        )
        command = [sys.executable, "-m", "winnow", "run", "cifar10-cnn", "--device", self.asked.device, *size]
        command += ["--set", "data.name=npz", "--set", f"data.path={self.folder / 'images.npz'}"]
        command += [
            "--top",
            "1",
            "--seeds",
            "1" if self.asked.quick else "2",
            "--runs-dir",
            str(self.folder),
            "--name",
            "run",
        ]
        done, seconds = self._command("winnow_run", command)
        if done is None:
            return
        said = [line for line in done.stderr.splitlines() if "at once" in line]
        print(f"\n`winnow run cifar10-cnn {' '.join(size)}`: exit code {done.returncode} after {seconds:.0f} s")
        print("\n".join(said))
        if done.returncode:
            print(done.stderr[-3000:])
            self.raw["winnow_run"] = {
                "exit_code": done.returncode,
                "seconds": seconds,
                "stderr": done.stderr[-3000:],
            }
            self._write()
            return
        figures = run_figures(self.folder / "run")
        print("\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in figures.items()), flush=True)
        self.raw["winnow_run"] = {"exit_code": 0, "seconds": seconds, "options": size, "said": said, **figures}
        self._write()


def write_images(path: Path, folder: Path | None, num: int) -> str:
    """An .npz of CIFAR-10's first `num` training images and a fifth as many test images, or of made-up ones; in words, which."""
    if folder is not None:
        tree = {"data": {"name": "cifar10", "limit": num}, "model": {"name": "mlp", "hidden": []}}
        rest = {"epochs": 1, "batch_size": 1, "optimizer": {"name": "adam", "lr": 0.1}}
        space = Space.from_tree({**tree, **rest}, source="benchmarks.speed.gpu")
        data = load_data(space, Source(folder))
        train, test = (data.train_images, data.train_labels), (data.test_images, data.test_labels)
    else:
        rng = np.random.default_rng(0)
        classes = rng.integers(60, 196, (10, 32, 32, 3))  # each class has a picture, under much noise
        labels = rng.integers(0, 10, num + num // 5)
        noise = rng.integers(-60, 60, (len(labels), 32, 32, 3), dtype=np.int16)
        images = (classes[labels] // 4 + 96 + noise).clip(0, 255).astype(np.uint8)
        train, test = (images[:num], labels[:num]), (images[num:], labels[num:])
    test = (test[0][: num // 5], test[1][: num // 5])
    np.savez(path, train_images=train[0], train_labels=train[1], test_images=test[0], test_labels=test[1])
    return f"{len(train[1]):,} training images, {'CIFAR-10' if folder else 'made up'}"


def run_figures(run: Path) -> dict[str, Any]:
    """The figures of a finished run, from its records."""
    import yaml

    epochs = [json.loads(line) for line in (run / "epochs.jsonl").read_text().splitlines()]
    retrained = [json.loads(line) for line in (run / "retrain.jsonl").read_text().splitlines()]
    searched = [line for line in epochs if line["phase"] == "search"]
    devices = yaml.safe_load((run / "study.yaml").read_text())["devices"]
    span = max(line["time"] for line in searched) - min(line["time"] - line["wall_seconds"] for line in searched)
    best = max((line for line in searched if line["validation_accuracy"]), key=lambda line: line["validation_accuracy"])
    tested = [line["test_accuracy"] for line in retrained if line["status"] == "completed" and not line["baseline"]]
    return {
        "trials_at_once": devices["concurrent"],
        "trials": len({line["trial"] for line in searched}),
        "epochs": len(searched),
        "seconds_first_to_last_epoch": round(span, 1),
        "share_of_the_workers_time_in_epochs": round(
            sum(line["wall_seconds"] for line in searched) / span / devices["concurrent"], 3
        ),
        "best_validation_accuracy": round(best["validation_accuracy"], 4),
        "test_accuracies_of_the_winner": [round(value, 4) for value in tested],
    }


if __name__ == "__main__":
    main()
