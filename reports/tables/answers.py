"""Loads the predictions of one retrained config's networks on the test images, from which its intervals are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from winnow.reports.reading.predictions import load_predictions
from winnow.reports.reading.run import RETRAINING, first_of_each, read_retrained
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData


ARRAYS = ("true", "predicted", "confidence", "probability_true")
"""The arrays of a prediction file with one number for each image."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Predictions of at least two networks, one per seed, for at least two images."""

    true: np.ndarray
    """int64 [N]: the true class of each image."""
    predicted: np.ndarray
    """int64 [S, N]: the class that the network of each seed predicts."""
    confidence: np.ndarray | None = None
    """float [S, N]: the probability of the predicted class."""
    probability_true: np.ndarray | None = None
    """float [S, N]: the probability of the true class."""
    probabilities: Sequence[np.ndarray] | None = None
    """S arrays, float [N, K]; None if they were not recorded, or were not read."""

    @property
    def correct(self) -> np.ndarray:
        """Whether each network classifies each image correctly, bool [S, N]."""
        return self.predicted == self.true

    def same_images(self, other: Answers) -> bool:
        """Return whether both belong to the same test set, judged by the sequence of true classes."""
        return np.array_equal(self.true, other.true)


def load_answers(path: Path, lines: Sequence[dict[str, Any]], probabilities: bool = False) -> Answers | None:
    """Load the predictions of one retrained config.

    Args:
        path: The run folder.
        lines: The lines of `retrain.jsonl` of the config.
        probabilities: Whether to keep the probabilities of all classes, up to 2 bytes x images x classes x seeds.

    Returns:
        The predictions of all completed seeds; None if there are fewer than two, or if a prediction file is missing.
    """
    completed = [line for line in lines if line["status"] == TrialStatus.COMPLETED]
    kept = ARRAYS + ("probabilities",) * probabilities
    loaded = []
    for line in completed:
        arrays = load_predictions(path, line["predictions"]) if line.get("predictions") else None
        if arrays is None:
            return None
        loaded.append({name: values for name, values in arrays.items() if name in kept})
    return _gather(loaded)


def winner_answers(run: RunData, probabilities: bool = False) -> Answers | None:
    """Return the predictions of the first winner of a run; None if there are fewer than two seeds, or if predictions are missing.

    Args:
        run: The run.
        probabilities: Whether to return the probabilities of all classes too. No table has them, so they are None if the prediction
            files are not in the run folder, as for a report folder alone.
    """
    completed = [row for row in run.retrain_rows() if row["rank"] == 1 and row["status"] == TrialStatus.COMPLETED]
    if probabilities and (answers := _answers_of_files(run, completed)) is not None:
        return answers
    names = ["rank", "seed", "index", *ARRAYS]
    table = run.predictions.select(names)
    columns = {name: table.column(name).to_numpy(zero_copy_only=False) for name in names}
    rank, seed, index = (columns.pop(name) for name in ("rank", "seed", "index"))
    parts = []
    for value in np.unique(seed[rank == 1]).tolist():
        rows = np.flatnonzero((rank == 1) & (seed == value))
        rows = rows[np.argsort(index[rows], kind="stable")]
        parts.append({name: values[rows] for name, values in columns.items()})
    return _gather(parts) if len(parts) == len(completed) else None


def _answers_of_files(run: RunData, completed: Sequence[dict[str, Any]]) -> Answers | None:
    """Load the predictions of some rows of `retrains` from the run folder; None if it does not have the lines and files of all of them."""
    lines, _ = read_retrained(run.path)
    by_training = {
        (line["trial"], line["seed"]): line for line in first_of_each(lines, RETRAINING) if line["rank"] == 1
    }
    found = [by_training.get((row["trial"], row["seed"])) for row in completed]
    known = [line for line in found if line is not None]
    return load_answers(run.path, known, probabilities=True) if len(known) == len(found) else None


def _gather(seeds: Sequence[dict[str, np.ndarray]]) -> Answers | None:
    if len(seeds) < 2 or any(not np.array_equal(seed["true"], seeds[0]["true"]) for seed in seeds):
        return None
    true = seeds[0]["true"]
    if len(true) < 2:
        return None
    stacked = {
        name: np.stack([seed[name] for seed in seeds]) if all(name in seed for seed in seeds) else None
        for name in ("confidence", "probability_true")
    }
    has_all = all("probabilities" in seed for seed in seeds)
    return Answers(
        true,
        np.stack([seed["predicted"] for seed in seeds]),
        **stacked,
        probabilities=[seed["probabilities"] for seed in seeds] if has_all else None,
    )
