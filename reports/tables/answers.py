"""The answers of one retrained config's networks for the test images, from which its intervals are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from winnow.reports.reading.predictions import load_predictions

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers of at least two networks, one per seed, for at least two images."""

    true: np.ndarray
    """int64 [N]: the true class of each image."""
    predicted: np.ndarray
    """int64 [S, N]: the class that the network of each seed predicts."""

    @property
    def correct(self) -> np.ndarray:
        """bool [S, N]"""
        return self.predicted == self.true

    def same_images(self, other: Answers) -> bool:
        """Whether both are answers for the same test set, as far as the true classes in their order tell."""
        return np.array_equal(self.true, other.true)


def answers_of(path: Path, lines: Sequence[dict[str, Any]]) -> Answers | None:
    """Load the answers of one retrained config.

    Args:
        path: The run folder.
        lines: The lines of `retrain.jsonl` of the config.

    Returns:
        The answers of all seeds that completed; None if there are fewer than two, or a prediction file is missing.
    """
    completed = [line for line in lines if line["status"] == "completed"]
    loaded = [load_predictions(path / line["predictions"]) if line.get("predictions") else None for line in completed]
    return _gather([arrays for arrays in loaded if arrays is not None]) if all(loaded) else None


def winner_answers(run: RunData) -> Answers | None:
    """The answers of the first winner of a run; None if there are fewer than two seeds, or predictions are missing."""
    table = run.predictions.select(["rank", "seed", "index", "true", "predicted"])
    rank, seed, index, true, predicted = (table.column(i).to_numpy(zero_copy_only=False) for i in range(5))
    parts = []
    for value in np.unique(seed[rank == 1]).tolist():
        rows = np.flatnonzero((rank == 1) & (seed == value))
        rows = rows[np.argsort(index[rows], kind="stable")]
        parts.append({"true": true[rows], "predicted": predicted[rows]})
    completed = sum(row["rank"] == 1 and row["status"] == "completed" for row in run.retrain_rows())
    return _gather(parts) if len(parts) == completed else None


def _gather(seeds: Sequence[dict[str, np.ndarray]]) -> Answers | None:
    if len(seeds) < 2 or any(not np.array_equal(seed["true"], seeds[0]["true"]) for seed in seeds):
        return None
    true = seeds[0]["true"]
    return Answers(true, np.stack([seed["predicted"] for seed in seeds])) if len(true) > 1 else None
