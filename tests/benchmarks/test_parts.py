"""The benchmark of single parts: each part is a valid config that differs from the baseline, and the table is paired by seed."""

from __future__ import annotations

import math
from statistics import stdev

import pytest

from benchmarks import half_width
from benchmarks.search_quality.parts import BASE, CNN, PARTS, config_of, table


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


def test_intervals_of_few_tasks_are_those_of_student() -> None:
    """Two standard errors are too narrow for four tasks."""
    assert half_width([1.0, 2.0, 3.0, 4.0]) == pytest.approx(3.182446 * stdev([1.0, 2.0, 3.0, 4.0]) / 2, rel=1e-6)
    assert math.isnan(half_width([1.0]))
