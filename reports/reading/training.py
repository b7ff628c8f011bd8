"""Reads the folder of one training, as `winnow train --output` and `winnow bench-recipes` write it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from winnow.reports.reading.json_lines import read_lines
from winnow.reports.reading.predictions import PREDICTIONS, load_predictions
from winnow.spaces.epoch_figures import QUALITY
from winnow.spaces.errors import InputError
from winnow.spaces.grammar.plain_yaml import read_plain

FIGURES = tuple(figure.name for figure in QUALITY)


@dataclass(frozen=True)
class TrainingData:
    """The contents of a training's folder."""

    path: Path
    config: dict[str, Any]
    epochs: Sequence[dict[str, Any]]
    """The lines of epochs.jsonl in order, each epoch once."""
    result: dict[str, Any]
    """The content of result.json; empty while the training runs."""

    @property
    def class_names(self) -> list[str]:
        return list(self.result.get("data", {}).get("class_names", []))

    @cached_property
    def predictions(self) -> dict[str, np.ndarray] | None:
        """The arrays of predictions.npz, as from `load_predictions`; None before the test."""
        return load_predictions(self.path, PREDICTIONS) if "test_accuracy" in self.result else None

    def class_name(self, label: int) -> str:
        """Return the name of a class, or its number if the training does not know its name."""
        names = self.class_names
        return names[label] if label < len(names) else str(label)


def read_training(path: Path) -> TrainingData:
    """Read the folder of a training. Incomplete last lines are left out.

    Raises:
        InputError: The folder does not contain a training, or no epoch has finished yet.
    """
    try:
        config = read_plain(path / "config.yaml")
        result = path / "result.json"
        final = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not the folder of a training (winnow train --output): {error}") from error
    first: dict[int, dict[str, Any]] = {}
    for line in read_lines(path / "epochs.jsonl", {"epoch": (int,)})[0]:
        first.setdefault(line["epoch"], {**dict.fromkeys(FIGURES), **line})
    if not first:
        raise InputError(f"{path}: no epoch of this training has finished yet")
    return TrainingData(path, config, [first[epoch] for epoch in sorted(first)], final)
