"""Writes run folders of searches with several objectives, without training."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import yaml

from tests.helpers.make_run import Stage, make_run


def make_front_run(folder: Path, objectives: list[Any], seed: int = 0, stage: Stage = "searched") -> Path:
    """Write a run of `make_run` with several objectives; returns the folder.

    Its trainings also have a macro F1 and a calibration error that neither the config nor the accuracy decides.

    Args:
        folder: The run folder.
        objectives: As in `search.objectives`.
        seed: Seed of the simulation.
        stage: Where the run was cut short.
    """
    make_run(folder, stage, seed=seed)
    study = yaml.safe_load((folder / "study.yaml").read_text())
    study["settings"]["objectives"] = objectives
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    _add_metrics(folder / "epochs.jsonl", "validation")
    if stage == "retrained":
        _add_metrics(folder / "retrain.jsonl", "test")
    return folder


def _add_metrics(file: Path, images: str) -> None:
    lines = [json.loads(text) for text in file.read_text().splitlines()]
    for line in lines:
        if line[f"{images}_accuracy"] is not None:
            drawn = random.Random(f"{line['trial']} {line['seed']} {line.get('epoch')}")
            line[f"{images}_calibration_error"] = drawn.uniform(0.01, 0.3)
            line[f"{images}_macro_f1"] = drawn.uniform(0.5, 0.95)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
