"""Whether the seeds of a retraining should be trained as one: a step of several networks through `torch.func.vmap` against a step of each.

    python -m benchmarks.speed.fused_seeds [--device cuda] [--seeds 3] [--steps 10] [--batch 128] [--threads 1] [--output FILE]

The weights of the seeds are stacked, so convolutions become grouped ones and linear layers batched products; each seed has images of its own.
SGD with momentum, float32, no dropout. Both by turns, step by step; medians of CPU seconds, on a GPU of seconds. The largest difference of a
weight after one step is given in float32, and in float64, where only a fault would show. Prints a Markdown table and writes FILE, by default
benchmarks/results/fused_seeds-<device>.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from benchmarks import RESULTS, spread
from winnow.models import build
from winnow.search.storage.provenance import hardware, versions
from winnow.spaces.schema import Config

NUM_CLASSES = 10
SETTLING_STEPS = 2
FILTERS = {"small": (16, 32), "middle": (32, 64, 128), "large": (64, 128, 256)}


class Separate:
    """Each seed with a network and an optimizer of its own."""

    def __init__(self, networks: list[nn.Module]) -> None:
        self.networks = networks
        self.optimizers = [torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9) for network in networks]

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        for network, optimizer, batch, truth in zip(self.networks, self.optimizers, images, labels, strict=True):
            optimizer.zero_grad()
            cross_entropy(network(batch), truth).backward()
            optimizer.step()

    def weights(self) -> list[dict[str, torch.Tensor]]:
        return [dict(network.named_parameters()) for network in self.networks]


class Fused:
    """All seeds in one network with stacked weights."""

    def __init__(self, networks: list[nn.Module]) -> None:
        self.parameters, self.buffers = stack_module_state(networks)
        self.network = copy.deepcopy(networks[0]).to("meta")
        self.optimizer = torch.optim.SGD(self.parameters.values(), lr=0.05, momentum=0.9)
        self.logits = vmap(self._logits, randomness="different")

    def _logits(self, parameters: Any, buffers: Any, images: torch.Tensor) -> torch.Tensor:
        return functional_call(self.network, (parameters, buffers), (images,))

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        logits = self.logits(self.parameters, self.buffers, images)
        # The sum over the seeds gives each its own gradient.
        torch.stack([cross_entropy(*of_seed) for of_seed in zip(logits, labels, strict=True)]).sum().backward()
        self.optimizer.step()

    def weights(self) -> list[dict[str, torch.Tensor]]:
        names = self.parameters.keys()
        return [dict(zip(names, of_seed, strict=True)) for of_seed in zip(*self.parameters.values(), strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="file of the raw numbers")
    options = parser.parse_args()
    output = options.output or RESULTS / f"fused_seeds-{options.device}.json"
    del options.output  # results hold no paths
    torch.set_num_threads(options.threads)
    rows = []
    print(
        "| network | separate, ms | fused, ms | fused / separate | difference, float32 | float64 |\n|---|---|---|---|---|---|"
    )
    for name in FILTERS:
        row = {"network": name, **times(name, options)}
        row |= {str(kind)[6:]: difference(name, kind, options) for kind in (torch.float32, torch.float64)}
        rows.append(row)
        ratio = statistics.median(a / b for a, b in zip(row["fused"], row["separate"], strict=True))
        cells = [spread([1e3 * each for each in row[way]]) for way in ("separate", "fused")]
        print(
            f"| {name} | {' | '.join(cells)} | {ratio:.2f} | {row['float32']:.1e} | {row['float64']:.1e} |", flush=True
        )
    raw = {"options": vars(options), "rows": rows, "hardware": hardware(), "versions": versions()}
    output.write_text(json.dumps(raw, indent=2) + "\n")


def networks(name: str, options: argparse.Namespace, kind: torch.dtype = torch.float32) -> list[nn.Module]:
    tree = {
        "data": {"name": "npz", "path": "none"},
        "epochs": 1,
        "batch_size": options.batch,
        "model": {
            "name": "cnn",
            "norm": "batch",
            "stages": [{"filters": each, "pool": "max"} for each in FILTERS[name]],
        },
        "optimizer": {"name": "sgd", "lr": 0.05},
    }
    model = Config.model_validate(tree).model
    torch.manual_seed(0)
    return [build(model, (3, 32, 32), NUM_CLASSES).to(options.device, kind) for _ in range(options.seeds)]


def batches(options: argparse.Namespace, kind: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [seeds, batch, 3, 32, 32] and labels [seeds, batch]."""
    shape = (options.seeds, options.batch)
    images = torch.randn(*shape, 3, 32, 32, device=options.device, dtype=kind)
    return images, torch.randint(0, NUM_CLASSES, shape, device=options.device)


def times(name: str, options: argparse.Namespace) -> dict[str, list[float]]:
    ways = {"separate": Separate(networks(name, options)), "fused": Fused(networks(name, options))}
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(SETTLING_STEPS + options.steps):
        images, labels = batches(options)
        for way, trained in ways.items():
            started = now(options.device)
            trained.step(images, labels)
            if number >= SETTLING_STEPS:
                found[way].append(now(options.device) - started)
    return found


def difference(name: str, kind: torch.dtype, options: argparse.Namespace) -> float:
    """The largest difference of a weight after one step from the same weights."""
    one, other = Separate(networks(name, options, kind)), Fused(networks(name, options, kind))
    images, labels = batches(options, kind)
    for trained in (one, other):
        trained.step(images, labels)
    pairs = zip(one.weights(), other.weights(), strict=True)
    return max(float((a[key] - b[key]).abs().max().detach()) for a, b in pairs for key in a)


def now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


if __name__ == "__main__":
    main()
