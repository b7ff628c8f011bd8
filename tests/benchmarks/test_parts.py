"""The benchmark of single parts: each part is a valid config that differs from the baseline, and the table is paired by seed."""

from __future__ import annotations

import math
from statistics import stdev

import pytest

from benchmarks import half_width
from benchmarks.search_quality import steps
from benchmarks.search_quality.parts import BASE, CNN, PARTS, config_of, table
from winnow.spaces import catalog


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_a_training_of_the_same_images_and_epochs(part: str) -> None:
    config, base = (config_of(name, "DATA", 500, 3) for name in (part, BASE))
    assert (config == base) == (part == BASE)
    assert (config.epochs, config.data.limit, config.data.path) == (3, 500, "DATA")
    if PARTS[part][0] == CNN:
        changed = [key for key, value in config if value != getattr(base, key)]
        assert len(changed) == (part != BASE)  # one section, so that nothing else explains a difference


def test_the_table_is_paired_by_seed() -> None:
    def run(accuracy: float, seconds: float) -> dict[str, float]:
        return {"test_accuracy": accuracy, "cpu_seconds": seconds}

    runs = {BASE: {"0": run(0.5, 10.0), "1": run(0.6, 20.0)}, "mixup": {"0": run(0.52, 11.0), "1": run(0.62, 22.0)}}
    *_, base, mixup = table(runs).splitlines()
    assert base == "| none | 2 | 55.0 |  | 1.00 |"
    assert mixup == "| mixup | 2 | 57.0 | +2.0 (+2.0 to +2.0) | 1.10 |"
    runs["CutMix"] = {"0": run(0.49, 15.0)}
    assert table(runs).splitlines()[-1] == "| CutMix | 1 | 49.0 | -1.0 | 1.50 |"


def test_what_the_fast_recipe_adds_has_a_row_of_its_own() -> None:
    changed = " ".join(change for _, changes in PARTS.values() for change in changes)
    keys = ("test_flip", "test_shift", "norm_momentum", "norm_gain", "pool_place", "features=max", "logits_scale")
    assert not [key for key in (*keys, "layer_decay", "decay_biases", "norm_bias_lr_factor") if key not in changed]


def test_steps_lead_from_a_plain_network_to_the_fast_recipe() -> None:
    names = steps.trainings()
    assert (
        len(names) == len(set(names)) == 2 * len(steps.STEPS)
    )  # the last step is the recipe, the one before lacks the last part alone
    configs = {name: steps.config_of(name, "DATA", 500, 3) for name in names}
    assert len({config.model_dump_json() for config in configs.values()}) == len(names)
    fast = catalog.load(steps.RECIPE).example()
    kept = {key: value for key, value in configs[""] if key not in ("data", "epochs")}
    assert kept == {key: value for key, value in fast if key not in ("data", "epochs")}
    assert configs[""].data.augment == fast.data.augment
    for part in steps.STEPS:
        assert len([key for key, value in configs[part] if value != getattr(configs[""], key)]) == 1


def test_the_table_of_steps_is_paired_by_seed() -> None:
    def run(accuracy: float, seconds: float) -> dict[str, float]:
        return {"test_accuracy": accuracy, "cpu_seconds": seconds}

    first, second, *_ = steps.STEPS
    plain, after_first = ", ".join(steps.STEPS), ", ".join([*steps.STEPS][1:])
    runs = {
        "": {"0": run(0.9, 20.0)},
        plain: {"0": run(0.5, 10.0), "1": run(0.6, 10.0)},
        after_first: {"0": run(0.52, 11.0), "1": run(0.62, 11.0)},
        first: {"0": run(0.88, 10.0), "1": run(0.5, 1.0)},
    }
    _, _, none, one, two, *_ = steps.table(runs).splitlines()
    assert none == "| none of them | 55.0 |  |  | 2 |  |  |  |"
    assert one == f"| {first} | 57.0 | +2.0 (+2.0 to +2.0) | 1.10 | 2 | +2.0 | 2.00 | 1 |"
    assert two == f"| {second} | not run | not run |  | 0 | not run |  | 0 |"


def test_intervals_of_few_tasks_are_those_of_student() -> None:
    """Two standard errors are too narrow for four tasks."""
    assert half_width([1.0, 2.0, 3.0, 4.0]) == pytest.approx(3.182446 * stdev([1.0, 2.0, 3.0, 4.0]) / 2, rel=1e-6)
    assert math.isnan(half_width([1.0]))
