"""Does it pay to compare a trial at a rung only with those of similar cost (`--strata`)?

    python -m benchmarks.stratified DATA [--configs 48] [--epochs 27] [--images 8000] [--orders 200] [--strata 2 3 4]

DATA is CIFAR-10 in Hugging Face Parquet. Random configs of the shipped space cifar10-cnn are trained to the end, once, with the one
training loop; their curves go into benchmarks/results/stratified.jsonl, and what is there is not trained again. Each rule then judges
the same curves in many random orders of arrival, so that a difference between the rules is none of training noise. Told per rule:
the best objective among the trials it completes, the regret against the best of all curves, the epochs and the multiply-adds
spent, and the share of the trials it completes that are of the larger half. A rule that lets more trials go on spends more, so
regret is also given for plain halving with another reduction factor at about the same cost.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev

import torch

from models import summarize
from search.data.source import Source, load_data
from search.resources.largest_config import sample_configs
from search.schedulers.asha import Asha
from search.schedulers.stratified import Stratified
from search.storage.provenance import hardware, versions
from search.storage.run_folder import JsonLines, read_json_lines
from search.training.device_data import DeviceData
from search.training.loop import train
from spaces import catalog

CURVES = Path("benchmarks/results/stratified.jsonl")
TABLE = Path("benchmarks/results/stratified.md")


@dataclass(frozen=True)
class Curve:
    """Validation accuracy after each epoch; `cost` in multiply-adds of one image."""

    values: list[float]
    cost: float


@dataclass(frozen=True)
class Outcome:
    """Of one rule and one order of arrival."""

    regret: float
    epochs: int
    cost: float
    large_share: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--configs", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--strata", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="overrides of the space")
    asked = parser.parse_args()
    curves = record_curves(asked.data, asked.configs, asked.epochs, asked.images, asked.overrides)
    text = report(curves, asked.epochs, asked.orders, asked.strata, asked.images, asked.overrides)
    TABLE.write_text(text)
    print(text)


def record_curves(path: Path, num: int, epochs: int, images: int, overrides: Sequence[str]) -> list[Curve]:
    """Train what is not in the file yet; configs that diverge count as worthless from there on."""
    fixed = ["data.name=parquet", f"data.path={path}", f"data.limit={images}", f"epochs={epochs}", "data.augment=flip"]
    space = catalog.load("cifar10-cnn", [*fixed, *overrides])
    data = load_data(space, Source(Path("data")))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    done = {line["config"]: line for line in read_json_lines(CURVES)}
    lines = JsonLines(CURVES)
    found: list[Curve] = []
    for config in sample_configs(space, data, num, seed=0):
        key = json.dumps(config.model_dump(mode="json", exclude={"data": {"path"}}), sort_keys=True)
        if key not in done:
            began = time.time()
            values = [
                epoch.validation_accuracy or 0.0
                for epoch in train(config, DeviceData.build(data, config.data, device, 0), device, 0)
            ]
            cost = summarize(config.model, data.image_shape, data.num_classes).multiply_adds
            seconds = round(time.time() - began, 1)
            done[key] = {"config": key, "values": values, "cost": cost, "seconds": seconds, "device": device.type}
            lines.append(done[key])
            print(f"{len(found) + 1} of {num}: {values[-1]:.4f} after {seconds} s, {cost:,} multiply-adds", flush=True)
        line = done[key]
        found.append(Curve([*line["values"], *[0.0] * (epochs - len(line["values"]))], line["cost"]))
    lines.close()
    return found


def report(
    curves: list[Curve], epochs: int, orders: int, strata: Sequence[int], images: int, overrides: Sequence[str]
) -> str:
    rules: dict[str, tuple[int, float]] = {f"halving, factor {factor:g}": (1, factor) for factor in (3.0, 2.5, 2.0)}
    rules |= {f"{n} strata, factor 3": (n, 3.0) for n in strata}
    machine = f"{hardware()['processor']}, {hardware()['num_cpus']} CPUs; torch {versions()['torch']}"
    head = (
        f"{len(curves)} random configs of cifar10-cnn{''.join(f', `{each}`' for each in overrides)}; {images} images, {epochs} epochs, {orders} random orders of arrival, first rung "
        f"after {grace(epochs)}. {machine}. Mean (standard deviation over the orders, not over trainings: each config was trained once).\n\n"
        "| rule | regret, points | epochs | multiply-adds against halving | completed trials of the larger half |\n|---|---|---|---|---|\n"
    )
    rows, base = [], 0.0
    for name, (num_strata, factor) in rules.items():
        found = [judge(curves, epochs, num_strata, factor, random.Random(order)) for order in range(orders)]
        base = base or mean(one.cost for one in found)
        regrets = [100 * one.regret for one in found]
        rows.append(
            f"| {name} | {mean(regrets):.2f} ({stdev(regrets):.2f}) | {mean(one.epochs for one in found):.0f} "
            f"| {mean(one.cost for one in found) / base:.2f} | {100 * mean(one.large_share for one in found):.0f} % |"
        )
    return head + "\n".join(rows) + "\n"


def grace(epochs: int) -> int:
    return max(1, epochs // 16)


def judge(curves: list[Curve], epochs: int, num_strata: int, factor: float, rng: random.Random) -> Outcome:
    """One search over the recorded curves: the trials arrive in a random order, one after the other."""
    rule = Asha(grace(epochs), factor, epochs, "maximize")
    if num_strata > 1:
        rule = Stratified(grace(epochs), factor, epochs, "maximize", num_strata)
    order = list(range(len(curves)))
    rng.shuffle(order)
    completed, spent, cost = [], 0, 0.0
    for trial in order:
        rule.note_cost(trial, curves[trial].cost)
        for epoch, value in enumerate(curves[trial].values, start=1):
            spent, cost = spent + 1, cost + curves[trial].cost
            if not rule.judge(trial, epoch, value):
                break
        else:
            completed.append(trial)
    bar = median(curve.cost for curve in curves)
    best = max(curve.values[-1] for curve in curves)
    reached = max((curves[trial].values[-1] for trial in completed), default=0.0)
    large = sum(curves[trial].cost > bar for trial in completed) / max(1, len(completed))
    return Outcome(best - reached, spent, cost, large)


if __name__ == "__main__":
    main()
