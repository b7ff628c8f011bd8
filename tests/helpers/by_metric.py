"""A simulated run that was searched by another metric than accuracy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.helpers.make_run import make_run
from winnow import reports
from winnow.search.training import metrics
from winnow.spaces.epoch_figures import name_on_test_images


def run_by(folder: Path, objective: str, seed: int = 0) -> reports.RunData:
    """Write a retrained run whose objective is a metric; the networks answer as in `make_run`, whose predictions give its test values.

    Args:
        folder: The run folder.
        objective: `validation_loss`, or a built-in metric of which high values are good, such as `validation_macro_f1`.
        seed: Seed of the simulation.
    """
    is_loss = objective == "validation_loss"
    make_run(folder, seed=seed, objective=objective if is_loss else "validation_accuracy")
    if not is_loss:
        for name, text in (("study.yaml", "objective: {}"), ("epochs.jsonl", '"{}"')):
            file = folder / name
            new = file.read_text().replace(text.format("validation_accuracy"), text.format(objective))
            file.write_text(new)
    lines = []
    for line in map(json.loads, (folder / "retrain.jsonl").read_text().splitlines()):
        if line["predictions"]:
            with np.load(folder / line["predictions"]) as arrays:
                line[name_on_test_images(objective)] = _value(objective, dict(arrays))
        lines.append(json.dumps(line) + "\n")
    (folder / "retrain.jsonl").write_text("".join(lines))
    return reports.read(folder)


def _value(objective: str, arrays: dict[str, np.ndarray]) -> float:
    if objective == "validation_loss":
        return float(-np.log(arrays["probability_true"].astype(np.float64)).mean())
    metric = getattr(metrics, objective.removeprefix("validation_"))
    return float(metric(arrays["true"], arrays["probabilities"].astype(np.float64)))
