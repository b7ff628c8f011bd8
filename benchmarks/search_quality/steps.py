"""The parts of `recipes/cifar10-fast`, added one after the other and left out one by one: the mode `--steps` of `parts`.

The recipe without all of them is an ordinary network with decoupled SGD and one cycle. A training is named by the parts that it leaves
out, so one that belongs to both ways is trained once.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, median

from benchmarks import points
from winnow.spaces import catalog
from winnow.spaces.schema import Config

RECIPE = "recipes/cifar10-fast"
STEPS: dict[str, list[str]] = {
    "mirrored border of the crop": ["data.augment.1.fill=zero"],
    "alternating flip": ["data.augment.0.alternate=false"],
    "GELU": ["model.activation=relu"],
    "whitening": ["model.whitening=null"],
    "Dirac initialization": ["model.init=default"],
    "pooling before the norm": ["model.pool_place=after_activation"],
    "momentum of norms": ["model.norm_momentum=0.1"],
    "fixed gains of norms": ["model.norm_gain=true"],
    "global max pooling": ["model.features=avg"],
    "scaled logits": ["model.logits_scale=1.0"],
    "Nesterov momentum": ["optimizer.nesterov=false"],
    "larger rate of norms and biases": ["optimizer.norm_bias_lr_factor=1.0"],
    "linear schedule and its ends": ["schedule={name: one_cycle, peak: 0.23}"],
    "label smoothing": ["loss.label_smoothing=0.0"],
    "Lookahead": ["averaging=null"],
    "flip in the test": ["test_flip=false"],
    "shift in the test": ["test_shift=0"],
}
"""Each part in the order in which it is added, and the changes that leave it out."""


def trainings() -> list[str]:
    """Return the names of all trainings: the recipe, each step up to it, and the recipe without each part."""
    return list(dict.fromkeys(["", *map(_before, range(len(STEPS), -1, -1)), *STEPS]))


def _before(number: int) -> str:
    """Return the name of the training with the first parts alone."""
    return ", ".join(list(STEPS)[number:])


def config_of(name: str, data: str, images: int, epochs: int) -> Config:
    """Return the config of a training.

    Args:
        name: The parts that are left out, from `trainings`.
        data: Folder of CIFAR-10 in Parquet.
        images: Number of training images.
        epochs: Number of epochs.
    """
    changes = [change for part in filter(None, name.split(", ")) for change in STEPS[part]]
    of_data = [
        "data.name=parquet",
        f"data.path={data}",
        f"data.limit={images}",
        f"epochs={epochs}",
        "data.normalize=computed",
    ]
    return catalog.load(RECIPE, [*of_data, *changes]).example()


def table(runs: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return a Markdown table: for each part what it brings to the parts before it, and to the recipe without it, paired by seed.

    Args:
        runs: Training -> seed -> `test_accuracy` and `cpu_seconds`.
    """
    lines = [
        "| part | test accuracy with it and those above, % | added: points (95 %) | CPU time | n | to the rest of the recipe: points (95 %) | CPU time | n |",
        "|---|---|---|---|---|---|---|---|",
    ]
    first = runs.get(_before(0), {})
    lines.append(f"| none of them | {_accuracy(first)} |  |  | {len(first)} |  |  |  |")
    for number, part in enumerate(STEPS):
        added = _gain(runs, _before(number), _before(number + 1))
        cells = [part, _accuracy(runs.get(_before(number + 1), {})), *added, *_gain(runs, part, "")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _accuracy(by_seed: dict[str, dict[str, float]]) -> str:
    return f"{100 * mean(run['test_accuracy'] for run in by_seed.values()):.1f}" if by_seed else "not run"


def _gain(runs: dict[str, dict[str, dict[str, float]]], without: str, with_it: str) -> Sequence[str]:
    """Return the points that a part brings, the CPU time with it as a multiple of that without it, and the number of seeds."""
    before, after = runs.get(without, {}), runs.get(with_it, {})
    seeds = [seed for seed in before if seed in after]
    if not seeds:
        return "not run", "", "0"
    gains = [100 * (after[seed]["test_accuracy"] - before[seed]["test_accuracy"]) for seed in seeds]
    times = [after[seed]["cpu_seconds"] / before[seed]["cpu_seconds"] for seed in seeds]
    return points(gains), f"{median(times):.2f}", str(len(seeds))
